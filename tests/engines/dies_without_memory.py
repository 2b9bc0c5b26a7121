"""A decoder that ends the process as OpenBLAS does if the system gives it no thread; a long traceback follows."""

import os
import signal
import sys

sys.stderr.write("OpenBLAS blas_thread_init: pthread_create failed for thread 1 of 2\n" + "noise\n" * 30)
sys.stderr.flush()
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.kill(os.getpid(), signal.SIGINT)
