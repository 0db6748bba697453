// Counter counts how often each page of a site was seen, and keeps the counts in one file.
//
//	GET  /health         {"status": "ok", "version": "..."}
//	GET  /counts         every page with its count
//	POST /seen/PAGE      one more; answers the new count
//
// It takes its listening sockets from LISTEN_FDS where there are any: "http", which two releases of it share at a switch,
// and "probe", at which a new one is asked in private before anybody else meets it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var version = "dev" // set by the build: -X main.version=...

const defaultAddress = "127.0.0.1:8731"

// listen gives the sockets that were handed over, or binds one of its own.
func listen() ([]net.Listener, error) {
	count, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if count == 0 || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		own, err := net.Listen("tcp", defaultAddress)
		return []net.Listener{own}, err
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	var sockets []net.Listener
	for number := 0; number < count && number < len(names); number++ {
		if names[number] != "http" && names[number] != "probe" {
			continue
		}
		file := os.NewFile(uintptr(3+number), names[number])
		socket, err := net.FileListener(file)
		file.Close() // the listener has a copy of it
		if err != nil {
			return nil, err
		}
		sockets = append(sockets, socket)
	}
	return sockets, nil
}

// routes are the answers of the service.
func routes(counts *Counts) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, map[string]any{"status": "ok", "version": version})
	})
	mux.HandleFunc("/counts", func(w http.ResponseWriter, r *http.Request) {
		all, err := counts.All()
		if err != nil {
			answer(w, http.StatusInternalServerError, map[string]any{"error": err.Error()})
			return
		}
		answer(w, http.StatusOK, all)
	})
	mux.HandleFunc("/seen/", func(w http.ResponseWriter, r *http.Request) {
		page := strings.TrimPrefix(r.URL.Path, "/seen/")
		if r.Method != http.MethodPost || page == "" {
			answer(w, http.StatusBadRequest, map[string]any{"error": "POST /seen/PAGE"})
			return
		}
		count, err := counts.Seen(page)
		if err != nil {
			answer(w, http.StatusInternalServerError, map[string]any{"error": err.Error()})
			return
		}
		answer(w, http.StatusOK, map[string]any{"page": page, "count": count})
	})
	return mux
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

func run() error {
	state := os.Getenv("REGROW_STATE")
	if state == "" {
		state = "."
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	sockets, err := listen()
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	server := &http.Server{Handler: routes(&Counts{Path: filepath.Join(state, "counts.json")}), ReadTimeout: 10 * time.Second}
	asked, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	done := make(chan error, len(sockets))
	for _, socket := range sockets {
		go func(socket net.Listener) { done <- server.Serve(socket) }(socket)
		log.Printf("counter %s listens on %s", version, socket.Addr())
	}
	select {
	case err := <-done:
		return err
	case <-asked.Done():
	}
	// What was accepted is answered; new connections wait in the shared queue for the next release.
	finish, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(finish); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
