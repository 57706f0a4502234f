"""The code of `echo.proto`, made when a script begins."""

import os
import site
import sys

import grpc

# Where `google/api/annotations.proto` is, and `echo.proto`.
sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), *site.getsitepackages()]
pb, stubs = grpc.protos_and_services("echo.proto")
