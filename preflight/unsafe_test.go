package preflight

import "unsafe"

func address[T any](v *T) uintptr { return uintptr(unsafe.Pointer(v)) }
