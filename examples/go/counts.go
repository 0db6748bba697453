package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// Counts are kept in one JSON file. Two releases may write it at once at a switch, so each change is made under a lock
// of the kernel's and replaces the file whole.
type Counts struct {
	Path string
}

// All counts by page.
func (c *Counts) All() (map[string]int, error) {
	content, err := os.ReadFile(c.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]int{}, nil
	}
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	return counts, json.Unmarshal(content, &counts)
}

// Seen adds one to a page and gives its new count.
func (c *Counts) Seen(page string) (int, error) {
	lock, err := os.OpenFile(c.Path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 0, err
	}
	defer lock.Close() // and with it the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return 0, err
	}
	counts, err := c.All()
	if err != nil {
		return 0, err
	}
	counts[page]++
	content, err := json.Marshal(counts)
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(c.Path+".new", content, 0o600); err != nil {
		return 0, err
	}
	return counts[page], os.Rename(c.Path+".new", c.Path)
}
