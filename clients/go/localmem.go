//go:build unix

// Package localmem records what happens in an editor or a tool, and finds it again: a client of the
// local daemon, which keeps the memory encrypted.
//
//	client, err := localmem.New(localmem.Options{})
//	event, err := client.RecordEvent(ctx, localmem.Draft{
//		Timestamp: time.Now().UnixMilli(), Snippet: "retry_limit = 5",
//		FilePath: "src/a.py", SelectionRange: &[2]int{1, 3},
//	})
//	found, err := client.QueryRecent(ctx, "what is the retry limit", 5, localmem.Filter{})
//
// The daemon is started on demand by the command `localmem`, which has to be installed. The client
// writes nothing to a disk, and speaks to nobody but the daemon of its own user, over a Unix socket.
//
// Every call ends when its context does, with the context's error; otherwise errors are of type
// *Error, whose Code is stable.
package localmem

import (
	"os"
	"strings"
	"sync"
	"time"

	"localmem/internal/place"
)

// DefaultTimeout is how long an answer may take.
const DefaultTimeout = time.Minute

// Options of a client; the zero value is that of a user's own daemon.
type Options struct {
	// Environment replaces os.Environ, for the daemon as well.
	Environment []string
	// Command is `localmem` with its first arguments, by default the one on PATH.
	Command []string
	// NoStart lets calls fail where no daemon runs.
	NoStart bool
	// Timeout is how long an answer may take, by default DefaultTimeout; a context may end earlier.
	Timeout time.Duration
}

// Client of the daemon. It may be used by many goroutines.
type Client struct {
	environment []string
	command     []string
	starts      bool
	timeout     time.Duration
	runtimeDir  string

	lock     sync.Mutex
	idle     []*connection
	starting *starting
	closed   bool

	sent func() // for tests: a request was written
}

// New is a client. It does not connect yet. An error is of a LOCALMEM_HOME that names no folder.
func New(options Options) (*Client, error) {
	client := &Client{
		environment: options.Environment,
		command:     options.Command,
		starts:      !options.NoStart,
		timeout:     options.Timeout,
		sent:        func() {},
	}
	if client.environment == nil {
		client.environment = os.Environ()
	}
	if len(client.command) == 0 {
		client.command = []string{"localmem"}
	}
	if client.timeout <= 0 {
		client.timeout = DefaultTimeout
	}
	folder, ok := place.RuntimeDir(client.get)
	if !ok {
		return nil, &Error{Code: CodeConfig, Message: "LOCALMEM_HOME: names no folder; unset it"}
	}
	client.runtimeDir = folder
	return client, nil
}

// Close gives the connections back; the daemon goes on. Calls under way are finished.
func (c *Client) Close() {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.closed = true
	for _, one := range c.idle {
		one.close()
	}
	c.idle = nil
}

// get is the variable of this name; of several the last one, as for a process that is started.
func (c *Client) get(name string) (string, bool) {
	for at := len(c.environment) - 1; at >= 0; at-- {
		if value, ok := strings.CutPrefix(c.environment[at], name+"="); ok {
			return value, true
		}
	}
	return "", false
}
