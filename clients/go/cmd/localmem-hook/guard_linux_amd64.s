#include "textflag.h"

// guarded is where the process begins, instead of in Go's runtime: the linker is told so by
// -E localmem_guarded. The runtime ends with 2 where the system has no thread or no memory for it, which
// an editor takes for "no" to whatever its user did, and complains on standard error. So it is run in a
// child, without standard error, and this process ends with 0 whatever becomes of it. Where there can be
// no child either, the event is dropped.
//
// The child has the memory of this process, which waits meanwhile and uses nothing of it afterwards: as
// with vfork(2), and for the same reason. The numbers are of syscalls(2).
TEXT localmem_guarded(SB),NOSPLIT|NOFRAME,$0
	// An interrupt at a terminal is for the child alone, which is silent about it.
	SUBQ	$16, SP
	MOVQ	$2, 0(SP) // the set of SIGINT alone
	MOVQ	$14, AX // rt_sigprocmask
	MOVQ	$0, DI // SIG_BLOCK
	MOVQ	SP, SI
	LEAQ	8(SP), DX // the set before
	MOVQ	$8, R10
	SYSCALL
	MOVQ	$56, AX // clone
	MOVQ	$0x4111, DI // CLONE_VM | CLONE_VFORK | SIGCHLD
	MOVQ	$0, SI
	MOVQ	$0, DX
	MOVQ	$0, R10
	MOVQ	$0, R8
	SYSCALL
	CMPQ	AX, $0
	JEQ	child
	MOVQ	$231, AX // exit_group
	MOVQ	$0, DI
	SYSCALL
child:
	MOVQ	$14, AX
	MOVQ	$2, DI // SIG_SETMASK
	LEAQ	8(SP), SI
	MOVQ	$0, DX
	MOVQ	$8, R10
	SYSCALL
	ADDQ	$16, SP // the arguments are there again, where the runtime looks for them
	MOVQ	$157, AX // prctl
	MOVQ	$1, DI // PR_SET_PDEATHSIG: whoever ends the parent means both
	MOVQ	$9, SI // SIGKILL
	SYSCALL
	MOVQ	$3, AX // close: the runtime opens /dev/null instead
	MOVQ	$2, DI
	SYSCALL
	JMP	_rt0_amd64_linux(SB)
