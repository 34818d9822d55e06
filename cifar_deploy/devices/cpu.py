"""The processor."""

from cifar_deploy.core.machine import machine
from cifar_deploy.devices import Device

DEVICE = Device(
    summary="the processor",
    probe=lambda: machine().processor,
    peak_bytes=lambda: None,
)
