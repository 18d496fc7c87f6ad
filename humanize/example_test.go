package humanize_test

import (
	"fmt"
	"time"

	"github.com/migrate-hpc/migrate/humanize"
)

func ExampleSize() {
	fmt.Println(humanize.Size(812), humanize.Size(4<<20), humanize.Size(3<<39))
	// Output: 812 B 4.0 MiB 1.5 TiB
}

func ExampleSpan() {
	fmt.Println(humanize.Span(3100*time.Microsecond), humanize.Span(212*time.Millisecond), humanize.Span(250*time.Second))
	// Output: 3.1 ms 212 ms 4m10s
}
