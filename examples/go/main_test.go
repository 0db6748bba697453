package main

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func ask(t *testing.T, handler http.Handler, method, path string) string {
	t.Helper()
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest(method, path, nil))
	return strings.TrimSpace(answer.Body.String())
}

func TestCountsSurvive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "counts.json")
	ask(t, routes(&Counts{Path: path}), http.MethodPost, "/seen/about")
	if got := ask(t, routes(&Counts{Path: path}), http.MethodPost, "/seen/about"); got != `{"count":2,"page":"about"}` {
		t.Fatalf("got %s", got)
	}
	if got := ask(t, routes(&Counts{Path: path}), http.MethodGet, "/counts"); got != `{"about":2}` {
		t.Fatalf("got %s", got)
	}
}

func TestTwoReleasesLoseNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "counts.json")
	var all sync.WaitGroup
	for range [2]int{} {
		all.Add(1)
		go func() {
			defer all.Done()
			counts := &Counts{Path: path} // a release of its own
			for range [20]int{} {
				if _, err := counts.Seen("home"); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	all.Wait()
	if got, err := (&Counts{Path: path}).All(); err != nil || got["home"] != 40 {
		t.Fatalf("got %v, %v", got, err)
	}
}

func TestHealthNamesTheVersion(t *testing.T) {
	if got := ask(t, routes(&Counts{}), http.MethodGet, "/health"); got != `{"status":"ok","version":"dev"}` {
		t.Fatalf("got %s", got)
	}
}
