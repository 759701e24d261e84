//go:build linux

package hook

import (
	"bytes"
	"encoding/binary"
	"syscall"
)

// mark ends a command that was installed. Before it are, from the end on, the size of what was added
// as 4 bytes, and that: the path of the interpreter that starts a daemon and, if a LOCALMEM_HOME was
// in force, a zero and that. See `hook/compiled.py` of the node, which writes it.
const mark = "localmem-hook\x00\x00\x01"

const addedBytesMax = 64 << 10

// installed is what an installation knows, and an editor's environment may not.
type installed struct {
	interpreter string
	home        string
	homed       bool
}

// readInstalled is what was added to this command's own file, nil if nothing was.
func readInstalled() *installed {
	file, err := open("/proc/self/exe", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(file)
	size, err := syscall.Seek(file, 0, 2)
	tail := make([]byte, 4+len(mark))
	if err != nil || !readWhole(file, tail, size-int64(len(tail))) || string(tail[4:]) != mark {
		return nil
	}
	added := int64(binary.LittleEndian.Uint32(tail))
	if added > addedBytesMax {
		return nil
	}
	data := make([]byte, added)
	if !readWhole(file, data, size-int64(len(tail))-added) {
		return nil
	}
	interpreter, home, homed := bytes.Cut(data, []byte{0})
	return &installed{string(interpreter), string(home), homed}
}

func readWhole(file int, data []byte, at int64) bool {
	read, err := syscall.Pread(file, data, at)
	return err == nil && read == len(data)
}

// environment is that of this process, with what an installation has in force instead.
type environment struct {
	installed *installed
}

func (e environment) get(name string) (string, bool) {
	if name == "LOCALMEM_HOME" && e.installed != nil && e.installed.homed {
		return e.installed.home, true
	}
	return syscall.Getenv(name)
}

// list is for a process that is started.
func (e environment) list() []string {
	if e.installed == nil || !e.installed.homed {
		return syscall.Environ()
	}
	given := []string{"LOCALMEM_HOME=" + e.installed.home}
	for _, one := range syscall.Environ() {
		if len(one) < 14 || one[:14] != "LOCALMEM_HOME=" {
			given = append(given, one)
		}
	}
	return given
}
