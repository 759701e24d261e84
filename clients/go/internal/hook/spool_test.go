//go:build linux

package hook

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The daemon renames the spool between a client's opening and locking it.
func TestASpoolThatIsTakenAwayMeanwhileLosesNothing(t *testing.T) {
	run, err := os.MkdirTemp("/dev/shm", "lm-")
	if err != nil {
		t.Skip("no folder in memory:", err)
	}
	defer os.RemoveAll(run)
	folder, err := syscall.Open(run, syscall.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(folder)
	locks, taken := tryLock, 0
	defer func() { tryLock = locks }()
	tryLock = func(file int) bool {
		if taken++; taken == 1 {
			rename(t, filepath.Join(run, "spool"), filepath.Join(run, "spool.draining"))
		}
		return locks(file)
	}
	Keep(folder, "codex", []byte("{}"))
	if found := read(t, filepath.Join(run, "spool.draining")); found != "" {
		t.Errorf("written to what was taken away: %q", found)
	}
	found := read(t, filepath.Join(run, "spool"))
	if !strings.HasPrefix(found, "codex ") || !strings.HasSuffix(found, " 2\n{}\n") {
		t.Errorf("in the new one is %q", found)
	}
}

func rename(t *testing.T, from, to string) {
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
