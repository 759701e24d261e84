//go:build linux

// Command localmem-hook is what an editor runs for an event, as one file that needs no interpreter.
//
// Where there is a guard for the machine, the process begins with that: see guard_linux_amd64.s.
//
// It does what node/src/localmem_node/hook/client.py does, which is the reference: the same tests run
// both. `localmem install` prefers this one where it finds it.
package main

import (
	"os"
	"syscall"

	"localmem/internal/hook"
)

func main() {
	defer func() {
		_ = recover() // a hook that failed is a silent one
		syscall.Exit(0)
	}()
	hook.Main(os.Args[1:])
}
