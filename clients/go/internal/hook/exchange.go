//go:build linux

package hook

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	hungTime       = 30 * time.Second // after no answer in time nobody waits for this daemon for so long
	answerBytesMax = 1 << 20
	receiveBytes   = 64 << 10
)

type outcome int

const (
	away     outcome = iota // the event was not taken
	hung                    // it was not answered in time
	answered                // taken, or refused for good
)

// ask is what the daemon answers; false when it is away, or does not answer, or not now.
func ask(folder int, editor string, body []byte) ([]byte, bool) {
	text, found, ok := readPrivate(folder, "hook", 4096)
	if !ok {
		return nil, false
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 2 || isHung(folder, nanoseconds(found.Mtim)) {
		return nil, false
	}
	answer, how := exchange(lines[0], lines[1], editor, body)
	if how == hung {
		noteHung(folder)
	}
	return answer, how == answered
}

// exchange is one request; its answer is empty when the daemon refuses it.
func exchange(path, token, editor string, body []byte) ([]byte, outcome) {
	end := time.Now().Add(Wait)
	connection, how := connect(path)
	if how != answered {
		return nil, how
	}
	defer syscall.Close(connection)
	head := "POST /v1/hook/" + editor + " HTTP/1.1\r\nHost: localhost\r\n" +
		"Authorization: Bearer " + token + "\r\nContent-Type: application/json\r\n" +
		"Content-Length: " + strconv.Itoa(len(body)) + "\r\nConnection: close\r\n\r\n"
	pieces := [][]byte{[]byte(head), body}
	if len(body) <= pieceBytes {
		pieces = [][]byte{append([]byte(head), body...)}
	}
	for _, piece := range pieces {
		if how := send(connection, piece, end); how != answered {
			return nil, how
		}
	}
	return receive(connection, end)
}

// connect is a connection to a socket of this user behind which is a process of this user.
func connect(path string) (int, outcome) {
	// One that begins with @ would be no file.
	if !strings.HasPrefix(path, "/") {
		return none, away
	}
	found, err := statAt(atCwd, path)
	if err != nil || !isOwn(&found, syscall.S_IFSOCK) {
		return none, away
	}
	kind := syscall.SOCK_STREAM | syscall.SOCK_CLOEXEC | syscall.SOCK_NONBLOCK
	connection, err := syscall.Socket(syscall.AF_UNIX, kind, 0)
	if err != nil {
		return none, away
	}
	err = syscall.Connect(connection, &syscall.SockaddrUnix{Name: path})
	if err == nil {
		var peer *syscall.Ucred
		peer, err = syscall.GetsockoptUcred(connection, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		if err == nil && int(peer.Uid) == os.Getuid() {
			return connection, answered
		}
	}
	syscall.Close(connection)
	if err == syscall.EAGAIN { // its queue is full
		return none, hung
	}
	return none, away
}

func send(connection int, data []byte, end time.Time) outcome {
	for len(data) > 0 {
		sent, err := syscall.Write(connection, data)
		switch {
		case err == nil:
			data = data[sent:]
		case err == syscall.EAGAIN:
			if !ready(connection, pollOut, left(end)) {
				return hung
			}
		case err != syscall.EINTR:
			return away
		}
	}
	return answered
}

func receive(connection int, end time.Time) ([]byte, outcome) {
	var received []byte
	piece := make([]byte, receiveBytes)
	for len(received) <= answerBytesMax {
		if !ready(connection, pollIn, left(end)) {
			return nil, hung
		}
		size, err := syscall.Read(connection, piece)
		if err == syscall.EINTR || err == syscall.EAGAIN {
			continue
		}
		if err != nil {
			return nil, away
		}
		received = append(received, piece[:size]...)
		answer, whole := ParseAnswer(received, size == 0)
		if whole {
			return answer, answered
		}
		if size == 0 {
			return nil, away
		}
	}
	return nil, answered
}

// ParseAnswer is the body of a whole HTTP answer; empty for one that is not 200, or is none. False if
// more must come, or the daemon did not take the event: it no longer takes the token (401), or is
// ending (503).
func ParseAnswer(received []byte, ended bool) ([]byte, bool) {
	head, body, found := bytes.Cut(received, []byte("\r\n\r\n"))
	if !found {
		return nil, false
	}
	status := ""
	if len(head) >= 12 {
		status = string(head[9:12])
	}
	if status == "401" || status == "503" {
		return nil, false
	}
	if status != "200" {
		return nil, true
	}
	_, rest, found := bytes.Cut(bytes.ToLower(head), []byte("\r\ncontent-length:"))
	if !found {
		return body, ended
	}
	line, _, _ := bytes.Cut(rest, []byte("\r\n"))
	size, err := strconv.Atoi(string(bytes.Trim(line, space)))
	if err != nil || size < 0 {
		return nil, true
	}
	if len(body) < size {
		return nil, false
	}
	return body[:size], true
}

// noteHung lets nobody wait for this daemon for a while.
func noteHung(folder int) {
	marker, err := openAt(folder, "hook.hung", appends, 0o600)
	if err != nil {
		return
	}
	// Without a name it is of the descriptor, and without times of now: futimens(3).
	syscall.Syscall6(syscall.SYS_UTIMENSAT, uintptr(marker), 0, uintptr(unsafe.Pointer(nil)), 0, 0, 0)
	syscall.Close(marker)
}

// isHung tells whether the daemon that runs since then did not answer lately; a later one is another.
func isHung(folder int, since int64) bool {
	marker, err := statAt(folder, "hook.hung")
	if err != nil {
		return false
	}
	marked := nanoseconds(marker.Mtim)
	ago := time.Now().UnixNano() - marked
	return marked >= since && ago >= 0 && ago < int64(hungTime)
}

func nanoseconds(at syscall.Timespec) int64 {
	return at.Nano()
}

// left is at least a millisecond: what has arrived by now is read.
func left(end time.Time) time.Duration {
	return max(time.Until(end), time.Millisecond)
}
