"""Calls the kernel as a 32-bit program does, by numbers that a filter for 64 bits takes for others.

layers: seccomp
needs: x86_64
"""
import signal

from attack import *

GETPID = 20
# push rbx; mov eax, edi; mov ebx, esi; mov ecx, edx; int 0x80; pop rbx; ret
call = machine_code(b"\x53\x89\xf8\x89\xf3\x89\xd1\xcd\x80\x5b\xc3")
code = child(lambda: 0 if call(GETPID, 0, 0) == os.getpid() else 1)
if code == -signal.SIGSEGV:
    absent("this kernel has no 32-bit calls")
through("its pid, by the 32-bit entry") if code == 0 else stopped(f"the child ended with {code}")
