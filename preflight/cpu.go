package preflight

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// x86Flags are the flags of /proc/cpuinfo that a program can use: instructions and their
// registers. The others tell of speed, of bugs, or of what only kernels and hypervisors use.
var x86Flags = strings.Fields(`
	fpu tsc cx8 cmov mmx fxsr sse sse2 syscall mmxext rdtscp lm 3dnow 3dnowext 3dnowprefetch pni pclmulqdq monitor ssse3 fma cx16
	sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand lahf_lm abm sse4a misalignsse xop fma4 tbm lwp mwaitx monitorx fsgsbase
	bmi1 hle avx2 bmi2 rtm mpx adx rdseed clflush clflushopt clwb pcommit sha_ni sha512 sm3 sm4
	avx512f avx512dq avx512ifma avx512pf avx512er avx512cd avx512bw avx512vl avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg
	avx512_vpopcntdq avx512_4vnniw avx512_4fmaps avx512_vp2intersect avx512_bf16 avx512_fp16 avx_vnni avx_ifma avx_vnni_int8
	avx_vnni_int16 avx_ne_convert avx10 amx_tile amx_int8 amx_bf16 amx_fp16 amx_complex gfni vaes vpclmulqdq
	xsaveopt xsavec xgetbv1 xsaves clzero rdpru waitpkg rdpid cldemote movdiri movdir64b enqcmd serialize tsxldtrk ptwrite
	pku ospke user_shstk cmpccxadd raoint uintr prefetchi apxf hreset`)

// armIgnored are those of arm64 that say nothing of instructions.
var armIgnored = []string{"evtstrm", "cpuid"}

func cpuFlags() ([]string, error) {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil, fmt.Errorf("processor: %w", err)
	}
	return usableFlags(runtime.GOARCH, string(data)), nil
}

// usableFlags picks the flags that matter from the text of /proc/cpuinfo, and
// of those the ones that every core has.
func usableFlags(arch, cpuinfo string) []string {
	var flags []string
	first := true
	for line := range strings.Lines(cpuinfo) {
		key, value, _ := strings.Cut(line, ":")
		key = strings.TrimSpace(key)
		if key != "flags" && key != "Features" && key != "features" && key != "isa" {
			continue
		}
		f := strings.Fields(value)
		slices.Sort(f)
		if first {
			flags = f
		} else if !slices.Equal(f, flags) {
			flags = slices.DeleteFunc(flags, func(s string) bool { return !slices.Contains(f, s) })
		}
		first = false
	}
	return slices.DeleteFunc(slices.Compact(flags), func(f string) bool {
		switch arch {
		case "amd64", "386":
			return !slices.Contains(x86Flags, f)
		}
		return slices.Contains(armIgnored, f)
	})
}

func kernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("kernel: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}
