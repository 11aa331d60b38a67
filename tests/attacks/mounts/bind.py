"""Shows /usr at another place with mount(2), where what covers it would be left out.

layers: seccomp, landlock, capabilities
"""
from attack import *

MS_BIND = 0x1000
os.mkdir("/tmp/there")
tried(syscall("mount", b"/usr", b"/tmp/there", None, MS_BIND, None), "/usr at another place")
