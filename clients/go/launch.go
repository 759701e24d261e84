//go:build unix

package localmem

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// startTime is how long a daemon may take to start: a key derivation, and a large index after a crash.
const startTime = 90 * time.Second

// starting is a start of the daemon that is under way, for all who wait for it.
type starting struct {
	done chan struct{}
	err  error
}

// start runs `localmem up`, once at a time; a caller whose context ends waits no longer.
func (c *Client) start(ctx context.Context) error {
	c.lock.Lock()
	one := c.starting
	if one == nil {
		one = &starting{done: make(chan struct{})}
		c.starting = one
		go func() {
			one.err = c.up()
			c.lock.Lock()
			c.starting = nil
			c.lock.Unlock()
			close(one.done)
		}()
	}
	c.lock.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-one.done:
		return one.err
	}
}

func (c *Client) up() error {
	limited, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	program, err := c.program()
	if err != nil {
		return err
	}
	var said bytes.Buffer
	arguments := append(c.command[1:len(c.command):len(c.command)], "up", "--json")
	command := exec.CommandContext(limited, program, arguments...)
	command.Env, command.Stdout = c.environment, &said
	command.WaitDelay = time.Second
	if err := command.Run(); err != nil {
		if known := problem(said.Bytes()); known != nil {
			return known
		}
		return daemonError("the daemon did not start: " + program + ": " + err.Error())
	}
	return nil
}

// program is the path of the command, by the PATH of the client's environment and never by the
// current folder.
func (c *Client) program() (string, error) {
	name := c.command[0]
	if filepath.IsAbs(name) {
		return name, nil
	}
	path, _ := c.get("PATH")
	for _, folder := range filepath.SplitList(path) {
		if filepath.IsAbs(folder) && !strings.Contains(name, "/") {
			if found, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
				return found, nil
			}
		}
	}
	return "", daemonError("the command " + name + " is not on PATH: localmem is not installed here")
}
