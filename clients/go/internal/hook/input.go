//go:build linux

package hook

import (
	"bytes"
	"slices"
	"syscall"
	"time"
	"unsafe"
)

const (
	inputTime     = 5 * time.Second        // for standard input, in all: 50 MB on a busy machine
	inputPause    = time.Second            // for the next byte of it
	inputEnd      = 200 * time.Millisecond // behind a brace that may be the last one: nobody may close it
	inputBytesMax = 128 << 20
	pieceBytes    = 1 << 20
	space         = " \t\n\v\f\r"
)

const (
	pollIn  = 0x1
	pollOut = 0x4
)

// readInput is standard input; what there is of it when nobody closes it, nothing when there is too
// much or it cannot be read.
func readInput() []byte {
	data := make([]byte, 0, 64<<10)
	end, pause := time.Now().Add(inputTime), inputPause
	for len(data) <= inputBytesMax {
		left := min(pause, time.Until(end))
		if left <= 0 || !ready(0, pollIn, left) {
			return data
		}
		data = slices.Grow(data, 32<<10)
		room := data[len(data):min(cap(data), len(data)+pieceBytes)]
		size, err := syscall.Read(0, room)
		if err == syscall.EINTR || err == syscall.EAGAIN {
			continue
		}
		if err != nil {
			return nil
		}
		if size == 0 {
			return data
		}
		data = data[:len(data)+size]
		tail := bytes.TrimRight(room[max(0, size-4):size], space)
		pause = inputPause
		if bytes.HasSuffix(tail, []byte("}")) {
			pause = inputEnd
		}
	}
	return nil
}

type pollDescriptor struct {
	descriptor int32
	events     int16
	found      int16
}

// ready waits until a descriptor can be read or written, or has an error to tell of; false when the
// time is over.
func ready(descriptor int, events int16, timeout time.Duration) bool {
	end := time.Now().Add(timeout)
	for {
		one := pollDescriptor{descriptor: int32(descriptor), events: events}
		left := syscall.NsecToTimespec(int64(max(timeout, 0)))
		found, _, err := syscall.Syscall6(
			syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&one)), 1, uintptr(unsafe.Pointer(&left)), 0, 0, 0)
		if err != syscall.EINTR {
			return err == 0 && found > 0
		}
		timeout = time.Until(end)
	}
}
