//go:build linux

package hook

import (
	"strconv"
	"syscall"
	"time"
)

const (
	spoolBytesMax = 4 << 20
	spoolTime     = 50 * time.Millisecond
)

// tryLock locks a file, if nobody else has; a variable, so that a test can have the daemon come first.
var tryLock = func(file int) bool {
	return syscall.Flock(file, syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// Keep appends the event to the spool, if that is in memory and has room; else it is dropped. Nothing
// of it may come to a disk: this command can neither redact nor encrypt.
//
// The spool is locked meanwhile, so that its size holds for many writers, and so that a daemon that
// took the file away can wait for the last of them.
func Keep(folder int, editor string, body []byte) {
	now := time.Now().UnixMilli()
	record := make([]byte, 0, len(editor)+len(body)+48)
	record = append(append(record, editor...), ' ')
	record = append(strconv.AppendInt(record, now, 10), ' ')
	record = append(strconv.AppendInt(record, int64(len(body)), 10), '\n')
	record = append(append(record, body...), '\n')
	if len(record) > spoolBytesMax || !IsInMemory(folder) {
		return
	}
	for end := time.Now().Add(spoolTime); time.Now().Before(end); {
		if keepNow(folder, record) {
			return
		}
	}
}

// keepNow tells whether nothing more is to be tried.
func keepNow(folder int, record []byte) bool {
	spool, err := openAt(folder, "spool", appends, 0o600)
	if err != nil {
		return true
	}
	defer syscall.Close(spool)
	if !isPrivate(spool, syscall.S_IFREG) {
		return true
	}
	if !tryLock(spool) {
		time.Sleep(time.Millisecond)
		return false
	}
	if !isNamed(spool, "spool", folder) {
		return false
	}
	appendWhole(spool, record)
	return true
}

func appendWhole(spool int, record []byte) {
	var found syscall.Stat_t
	if syscall.Fstat(spool, &found) != nil || found.Size+int64(len(record)) > spoolBytesMax {
		return
	}
	if written, _ := syscall.Write(spool, record); written < len(record) {
		_ = syscall.Ftruncate(spool, found.Size) // memory is full: half a record helps nobody
	}
}

func isLocked(name string, folder int) bool {
	file, err := openAt(folder, name, reads, 0)
	if err != nil {
		return false
	}
	defer syscall.Close(file)
	return !tryLock(file)
}

// isNamed tells whether an open file still has its name, and was not taken away.
func isNamed(file int, name string, folder int) bool {
	var opened syscall.Stat_t
	found, err := statAt(folder, name)
	if err != nil || syscall.Fstat(file, &opened) != nil {
		return false
	}
	return found.Dev == opened.Dev && found.Ino == opened.Ino
}
