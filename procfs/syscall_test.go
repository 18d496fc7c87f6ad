package procfs

import "testing"

func TestWhereAThreadIsIsReadAsTheKernelWritesIt(t *testing.T) {
	for text, want := range map[string]Syscall{
		"running\n":                    {Number: -1},
		"":                             {Number: -1},
		"-1 0x7ffd0f7a2000 0x45f3c1\n": {Number: -1, Stack: 0x7ffd0f7a2000},
		"101 0x4206 0x11 0x0 0x0 0x0 0x0 0x7ffd0f7a1e10 0x45f3c1\n":   {101, 0x4206, 0x11, 0x7ffd0f7a1e10},
		"56 0x1200011 0x0 0x7f 0x0 0x0 0x0 0x7ffd0f7a1e10 0x45f3c1\n": {56, 0x1200011, 0, 0x7ffd0f7a1e10},
	} {
		if at := ParseSyscall(text); at != want {
			t.Errorf("%q: %+v", text, at)
		}
	}
}
