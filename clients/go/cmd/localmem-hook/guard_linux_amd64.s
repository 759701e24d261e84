#include "textflag.h"

// guarded is where the process begins, instead of in Go's runtime: the linker is told so by
// -E localmem_guarded. The runtime ends with 2 where the system has no thread or no memory for it, which
// an editor takes for "no" to whatever its user did, and complains on standard error. So it is run in a
// child, without standard error, and this process ends with 0 whatever becomes of it. Where there can be
// no child either, the event is dropped.
//
// The numbers are of syscalls(2); only registers are used, besides 8 bytes of a set of signals.
TEXT localmem_guarded(SB),NOSPLIT|NOFRAME,$0
	MOVQ	$57, AX // fork
	SYSCALL
	CMPQ	AX, $0
	JEQ	child
	JLT	done
	MOVQ	AX, R12
	// An interrupt at a terminal is for the child, which says nothing about it either.
	SUBQ	$16, SP
	MOVQ	$2, 0(SP) // of SIGINT
	MOVQ	$14, AX // rt_sigprocmask
	MOVQ	$0, DI // SIG_BLOCK
	MOVQ	SP, SI
	MOVQ	$0, DX
	MOVQ	$8, R10
	SYSCALL
again:
	MOVQ	$61, AX // wait4
	MOVQ	R12, DI
	MOVQ	$0, SI
	MOVQ	$0, DX
	MOVQ	$0, R10
	SYSCALL
	CMPQ	AX, $-4 // EINTR
	JEQ	again
done:
	MOVQ	$231, AX // exit_group
	MOVQ	$0, DI
	SYSCALL
child:
	MOVQ	$157, AX // prctl
	MOVQ	$1, DI // PR_SET_PDEATHSIG: whoever ends the parent means both
	MOVQ	$9, SI // SIGKILL
	SYSCALL
	MOVQ	$3, AX // close: the runtime opens /dev/null instead
	MOVQ	$2, DI
	SYSCALL
	JMP	_rt0_amd64_linux(SB)
