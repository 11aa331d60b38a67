"""Opens for writing what sends interrupts to processors, and the registers of PCI devices.

layers: masks, users
"""
import glob

from attack import *

paths = glob.glob("/proc/irq/**/*affinity*", recursive=True) + glob.glob("/proc/bus/pci/*/*")
for path in [*paths, "/proc/mtrr", "/proc/acpi/wakeup", "/proc/scsi/scsi"]:
    try:
        os.open(path, os.O_WRONLY)
        through(f"{path} can be written")
    except OSError as error:
        why = errno.errorcode[error.errno]
stopped(why)
