package tmpfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
)

// A job's files cost our memory, too, and a warm-up looks at all of them.
func TestThereIsAnEndToTheFilesThatARoundLooksAt(t *testing.T) {
	dir, s := mounted(t, defaults)
	for i := range 8 {
		must(t, os.MkdirAll(fmt.Sprintf("%s/%d/%d", dir, i%3, i), 0o700))
	}
	to := target(t, s.Options)
	send(t, s, lane(to))
	defer func(n int) { mostEntries = n }(mostEntries)
	mostEntries = 10 // with the root there are 12
	if _, err := s.Send(context.Background(), lane(to)); !errors.Is(err, errTooMany) {
		t.Errorf("a round: %v", err)
	}
	if err := s.Note(context.Background()); !errors.Is(err, errTooMany) {
		t.Errorf("at the freeze: %v", err)
	}
}
