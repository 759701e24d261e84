//go:build linux

package hook

import (
	"strings"
	"syscall"
)

const descriptorsMax = 65_536

// startDaemon runs `localmem up` as nobody's child, unless a daemon starts or runs already.
//
// Of many that are run at once, its lock lets one start the daemon. This command ends without waiting
// for it, which makes it nobody's child.
func startDaemon(folder int, given environment) {
	if folder != none && (isLocked("launch.lock", folder) || isLocked("daemon.lock", folder)) {
		return
	}
	command := daemonCommand(given)
	null, err := open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if command == nil || err != nil {
		return
	}
	for descriptor := 3; descriptor < descriptorsMax; {
		descriptor = closeOnExec(descriptor)
	}
	standard := uintptr(null)
	_, _ = syscall.ForkExec(command[0], command, &syscall.ProcAttr{
		Env:   given.list(),
		Files: []uintptr{standard, standard, standard},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
}

// daemonCommand is of the interpreter that an installation names, or else of the `localmem` on PATH.
func daemonCommand(given environment) []string {
	if given.installed != nil {
		if given.installed.interpreter == "" {
			return nil
		}
		return []string{given.installed.interpreter, "-P", "-m", "localmem_node.cli.main", "up"}
	}
	path, _ := syscall.Getenv("PATH")
	for _, folder := range strings.Split(path, ":") {
		const execute = 1
		program := folder + "/localmem"
		if strings.HasPrefix(folder, "/") && syscall.Access(program, execute) == nil {
			return []string{program, "up"}
		}
	}
	return nil
}

// closeOnExec lets nothing of the editor's be held by what is started: descriptors from this one on.
// It returns where to go on.
func closeOnExec(first int) int {
	const closeRange, onExec = 436, 4
	_, _, err := syscall.RawSyscall(closeRange, uintptr(first), uintptr(^uint32(0)), onExec)
	if err == 0 {
		return descriptorsMax
	}
	syscall.CloseOnExec(first) // an older kernel
	return first + 1
}
