//go:build linux && !patient

package hook

import "time"

// Wait is for the daemon, in all: to connect, to send and to be answered.
const Wait = 280 * time.Millisecond
