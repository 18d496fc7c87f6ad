package printable_test

import (
	"fmt"
	"os"

	"github.com/migrate-hpc/migrate/printable"
)

// A user chose this name for a file: a terminal would clear its screen and turn red.
const hostile = "in\x1b[2Jput\n\x1b[31m.dat"

func ExampleText() {
	fmt.Println(printable.Text(hostile))
	// Output:
	// in\u001b[2Jput
	// \u001b[31m.dat
}

// In a cell of a table a line's end has no place either.
func ExampleLine() {
	fmt.Println(printable.Line(hostile))
	// Output: in\u001b[2Jput\u000a\u001b[31m.dat
}

// A character may come in two pieces; what never becomes one is written by Flush.
func ExampleWriter() {
	w := printable.NewWriter(os.Stdout)
	for _, piece := range []string{"J\xc3", "\xbclich \x9b0m\n\xc3"} {
		if _, err := w.Write([]byte(piece)); err != nil {
			fmt.Println(err)
		}
	}
	if err := w.Flush(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// Jülich \x9b0m
	// \xc3
}
