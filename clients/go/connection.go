//go:build unix

package localmem

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	attempts       = 4 // of a call that may be repeated, within 0.3 s
	idleMax        = 8
	answerBytesMax = 256 << 20
	bodyBytesMax   = 32 << 20 // the daemon reads no more, and closes amid what is sent
	stateBytesMax  = 64 << 10
)

// request is one of HTTP; a repeatable one is sent again when the connection breaks.
type request struct {
	method, path string
	body         []byte
	repeatable   bool
}

// connection to a daemon, with the token of that daemon.
type connection struct {
	socket *net.UnixConn
	reader *bufio.Reader
	token  string
}

func (c *connection) close() { _ = c.socket.Close() }

// errNone is of a machine where no daemon runs.
var errNone = daemonError("no daemon is running; start one with: localmem up")

var errTimeout = &Error{Code: CodeTimeout, Message: "the daemon did not answer in time; run: localmem doctor"}

// send is status and body of the answer to a request. The time that an answer may take does not begin
// before there is a daemon.
func (c *Client) send(ctx context.Context, what request) (int, []byte, error) {
	if len(what.body) > bodyBytesMax {
		return 0, nil, &Error{Code: CodeTooLarge, Message: "a call has at most 32 MiB"}
	}
	for attempt := 1; ; attempt++ {
		one, err := c.connected(ctx)
		if err != nil {
			return 0, nil, reason(ctx, err)
		}
		limited, cancel := context.WithTimeout(ctx, c.timeout)
		status, data, err := c.exchange(limited, one, what)
		ended := limited.Err() != nil
		cancel()
		if err == nil {
			return status, data, nil
		}
		if ended {
			return 0, nil, reason(ctx, errTimeout)
		}
		if !what.repeatable || attempt == attempts {
			doubt := ""
			if !what.repeatable {
				doubt = "; what was sent may or may not be done"
			}
			return 0, nil, daemonError("the daemon went away before it answered: " + err.Error() + doubt)
		}
		// A daemon that is being killed still takes connections for a few milliseconds.
		_ = pause(ctx, time.Duration(attempt)*againFirst)
	}
}

// reason is why a call ended: that its caller gave up or wanted it by now, or an error.
func reason(ctx context.Context, err error) error {
	switch ctx.Err() {
	case nil:
		return err
	case context.Canceled:
		return context.Canceled
	}
	return errTimeout
}

// exchange is one request over a connection, which is kept if it can be.
func (c *Client) exchange(ctx context.Context, one *connection, what request) (int, []byte, error) {
	stop := context.AfterFunc(ctx, one.close)
	response, err := c.begin(one, what)
	var data []byte
	if err == nil {
		data, err = io.ReadAll(io.LimitReader(response.Body, answerBytesMax+1))
	}
	if err == nil && len(data) > answerBytesMax {
		err = errors.New("an answer that is too long")
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil || response.Close || one.reader.Buffered() > 0 {
		one.close()
	} else {
		c.giveBack(one)
	}
	if err != nil {
		return 0, nil, err
	}
	return response.StatusCode, data, nil
}

// begin sends a request, in one write, and reads the head of the answer.
func (c *Client) begin(one *connection, what request) (*http.Response, error) {
	head := what.method + " " + what.path + " HTTP/1.1\r\nHost: localhost\r\n" +
		"Authorization: Bearer " + one.token + "\r\nContent-Type: application/json\r\n" +
		"Content-Length: " + strconv.Itoa(len(what.body)) + "\r\n\r\n"
	if _, err := one.socket.Write(append([]byte(head), what.body...)); err != nil {
		return nil, err
	}
	c.sent()
	return http.ReadResponse(one.reader, &http.Request{Method: what.method})
}

// connected is a connection that is not closed, with a daemon started if need be.
func (c *Client) connected(ctx context.Context) (*connection, error) {
	for one := c.takeIdle(); one != nil; one = c.takeIdle() {
		if one.isOpen() {
			return one, nil
		}
		one.close()
	}
	return c.opened(ctx, c.starts)
}

// opened is a new connection, with a daemon started if there is none and one may be.
func (c *Client) opened(ctx context.Context, starts bool) (*connection, error) {
	one, err := c.dial(ctx)
	if err != errNone || !starts {
		return one, err
	}
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	one, err = c.dial(ctx)
	if err == errNone {
		err = daemonError("the daemon started but cannot be reached; run: localmem doctor")
	}
	return one, err
}

func (c *Client) takeIdle() *connection {
	c.lock.Lock()
	defer c.lock.Unlock()
	if len(c.idle) == 0 {
		return nil
	}
	one := c.idle[len(c.idle)-1]
	c.idle = c.idle[:len(c.idle)-1]
	return one
}

func (c *Client) giveBack(one *connection) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.closed || len(c.idle) >= idleMax {
		one.close()
		return
	}
	c.idle = append(c.idle, one)
}

// isOpen tells whether the other side has not closed; an idle connection has nothing to read otherwise.
func (c *connection) isOpen() bool {
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return false
	}
	var open bool
	err = raw.Control(func(descriptor uintptr) {
		_, _, err := syscall.Recvfrom(int(descriptor), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = err == syscall.EAGAIN
	})
	return err == nil && open
}

// dial is a new connection; errNone if no daemon listens.
func (c *Client) dial(ctx context.Context) (*connection, error) {
	state, err := c.readState()
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	for {
		socket, err := new(net.Dialer).DialContext(limited, "unix", state.Socket)
		switch {
		case err == nil:
			one := socket.(*net.UnixConn)
			return &connection{one, bufio.NewReader(one), state.Token}, nil
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
			return nil, errNone
		case !errors.Is(err, syscall.EAGAIN):
			return nil, &Error{Code: "node", Message: state.Socket + ": cannot connect: " + err.Error()}
		}
		// Its queue is full: it hangs, or is busy.
		if pause(limited, 20*time.Millisecond) != nil {
			return nil, errTimeout
		}
	}
}

// daemonState is what a daemon says where it is; the token is a secret.
type daemonState struct {
	Socket string `json:"socket"`
	Token  string `json:"token"`
}

// readState is of the daemon that runs, or ran when the machine went down. Its file has to be this
// user's alone: whoever could write to it would get what is recorded.
func (c *Client) readState() (daemonState, error) {
	var state daemonState
	path := filepath.Join(c.runtimeDir, "daemon.json")
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return state, errNone
	}
	if err != nil {
		return state, &Error{Code: CodeConfig, Message: err.Error()}
	}
	defer file.Close()
	found, err := file.Stat()
	if err != nil {
		return state, &Error{Code: CodeConfig, Message: err.Error()}
	}
	owner := int(found.Sys().(*syscall.Stat_t).Uid)
	if found.Mode().Perm()&0o077 != 0 || owner != os.Getuid() && owner != 0 || !found.Mode().IsRegular() {
		message := fmt.Sprintf("%s is open to others; run: chmod 600 %s", path, path)
		return state, &Error{Code: CodeConfig, Message: message}
	}
	data, err := io.ReadAll(io.LimitReader(file, stateBytesMax))
	if err != nil || json.Unmarshal(data, &state) != nil || state.Socket == "" {
		return state, errNone
	}
	return state, nil
}

// pause waits, unless the context ends before.
func pause(ctx context.Context, how time.Duration) error {
	timer := time.NewTimer(how)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func notUnderstood(status int) error {
	return daemonError("the daemon answered " + strconv.Itoa(status) +
		" and nothing that is understood; run: localmem down")
}
