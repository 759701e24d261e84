//go:build linux

package hook

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
)

const (
	ours    = syscall.O_CLOEXEC | syscall.O_NOFOLLOW | syscall.O_NONBLOCK // a pipe is not waited for
	reads   = syscall.O_RDONLY | ours
	appends = syscall.O_WRONLY | syscall.O_APPEND | syscall.O_CREAT | ours
)

// none stands for a folder that is there and not to be trusted.
const none = -1

// openFolder is a folder that only this user can enter, as a descriptor; `none` if it is anything
// else, ENOENT if it is not there.
func openFolder(path string) (int, error) {
	folder, err := open(path, reads|syscall.O_DIRECTORY, 0)
	if err == syscall.ENOENT {
		return none, err
	}
	if err != nil || !isPrivate(folder, syscall.S_IFDIR) {
		return none, nil
	}
	return folder, nil
}

// makeFolder makes the runtime folder where no daemon made it yet, if that is in memory: for the spool
// alone. `none` if it is not.
func makeFolder(path string) (int, error) {
	parent, err := open(parentOf(path), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return none, err
	}
	if !IsInMemory(parent) {
		return none, nil
	}
	if err := syscall.Mkdir(path, 0o700); err != nil && err != syscall.EEXIST {
		return none, err
	}
	return openFolder(path)
}

func parentOf(path string) string {
	if at := strings.LastIndexByte(path, '/'); at > 0 {
		return path[:at]
	}
	return "/"
}

// IsInMemory tells whether the file system of an open folder has no disk (proc_pid_mountinfo(5)).
func IsInMemory(folder int) bool {
	var found syscall.Stat_t
	if syscall.Fstat(folder, &found) != nil {
		return false
	}
	number := strconv.FormatUint(major(uint64(found.Dev)), 10) + ":" + strconv.FormatUint(minor(uint64(found.Dev)), 10)
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	for _, line := range bytes.Split(text, []byte("\n")) {
		fields, kind, _ := bytes.Cut(line, []byte(" - "))
		named := bytes.SplitN(fields, []byte(" "), 4)
		if len(named) > 2 && string(named[2]) == number {
			kind, _, _ = bytes.Cut(kind, []byte(" "))
			return string(kind) == "tmpfs" || string(kind) == "ramfs"
		}
	}
	return false
}

// The numbers of a device as glibc has them in one: gnu_dev_major(3).
func major(device uint64) uint64 { return device>>8&0xfff | device>>32&^uint64(0xfff) }
func minor(device uint64) uint64 { return device&0xff | device>>12&^uint64(0xff) }

func open(path string, flags int, mode uint32) (int, error) {
	return openAt(atCwd, path, flags, mode)
}

const atCwd = -0x64

func openAt(folder int, name string, flags int, mode uint32) (int, error) {
	for {
		file, err := syscall.Openat(folder, name, flags, mode)
		if err != syscall.EINTR {
			return file, err
		}
	}
}

// readPrivate is the beginning of a file of a folder, and its state; false unless it is this user's alone.
func readPrivate(folder int, name string, size int) ([]byte, syscall.Stat_t, bool) {
	var found syscall.Stat_t
	file, err := openAt(folder, name, reads, 0)
	if err != nil {
		return nil, found, false
	}
	defer syscall.Close(file)
	if syscall.Fstat(file, &found) != nil || !isOwn(&found, syscall.S_IFREG) {
		return nil, found, false
	}
	data := make([]byte, size)
	read, err := syscall.Read(file, data)
	return data[:max(read, 0)], found, err == nil
}

// statAt is the state of what a name of a folder stands for; a link is not followed.
func statAt(folder int, name string) (syscall.Stat_t, error) {
	const onlyPath = 0x20_0000 // O_PATH: neither permission to read is needed, nor anything opened
	var found syscall.Stat_t
	file, err := openAt(folder, name, onlyPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return found, err
	}
	defer syscall.Close(file)
	return found, syscall.Fstat(file, &found)
}

func isPrivate(file int, kind uint32) bool {
	var found syscall.Stat_t
	return syscall.Fstat(file, &found) == nil && isOwn(&found, kind)
}

func isOwn(found *syscall.Stat_t, kind uint32) bool {
	own := int(found.Uid) == os.Getuid() && found.Mode&syscall.S_IFMT == kind
	return own && found.Mode&0o077 == 0
}
