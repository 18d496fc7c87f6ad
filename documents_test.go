package migrate

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

var (
	namedTest  = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`)
	writtenFor = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w+)\(`)
)

// What documents and package comments say is tested by a test is so by one that exists.
func TestDocumentsNameTestsThatExist(t *testing.T) {
	exist, named := map[string]bool{}, map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		isTest, isText := strings.HasSuffix(path, "_test.go"), strings.HasSuffix(path, ".md") || filepath.Base(path) == "doc.go"
		if err != nil || d.IsDir() || !isTest && !isText {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range writtenFor.FindAllSubmatch(text, -1) {
			exist[string(m[1])] = true
		}
		for _, name := range namedTest.FindAllString(string(text), -1) {
			if isText {
				named[name] = path
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(named) == 0 {
		t.Error("no document names a test")
	}
	for name, path := range named {
		if !exist[name] {
			t.Errorf("%s names %s, which does not exist", path, name)
		}
	}
}

// A row of what a move changes is a claim, and names the test that holds it.
func TestEachChangeByAMoveNamesItsTest(t *testing.T) {
	text, err := os.ReadFile("docs/jobs.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "\n## What a move changes\n")
	section, _, _ := strings.Cut(after, "\n## ")
	rows := 0
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| what |") {
			rows++
			if !namedTest.MatchString(line) {
				t.Errorf("no test is named: %s", line)
			}
		}
	}
	if !found || rows == 0 {
		t.Error("docs/jobs.md has no table of what a move changes")
	}
}

var namedFile = regexp.MustCompile("`([a-z0-9_./-]+(?:/[a-z0-9_-]+|\\.(?:go|md|c)))`")

// What a recipe says to open is there.
func TestRecipesNameFilesThatExist(t *testing.T) {
	text, err := os.ReadFile("CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	found := namedFile.FindAllStringSubmatch(string(text), -1)
	if len(found) < 10 {
		t.Errorf("only %d files are named", len(found))
	}
	for _, m := range found {
		if _, err := os.Stat(m[1]); err != nil && m[1] != "testing/synctest" {
			t.Errorf("CONTRIBUTING.md: %v", err)
		}
	}
}

var (
	// documents are what users read.
	documents = []string{"*.md", "docs/*.md"}
	// namedSource are files of the code, by their path.
	namedSource = regexp.MustCompile("`((?:[a-z0-9_]+/)+[a-z0-9_]+\\.go)`")
	// vague are words for a person of whom nothing is known; quoted, nobody is a user's name.
	vague = regexp.MustCompile(`(?i)\b(?:no|some|any|every)body\b|\bwhoever\b`)
)

// mostCell bounds a cell of a table, in characters: what is longer is a paragraph.
const mostCell = 200

func TestDocumentsAreReadable(t *testing.T) {
	read := 0
	for _, pattern := range documents {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			read++
			checkLines(t, name, string(text))
			for _, m := range namedSource.FindAllStringSubmatch(string(text), -1) {
				if _, err := os.Stat(m[1]); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
	if read < 8 {
		t.Errorf("only %d documents were read", read)
	}
}

func checkLines(t *testing.T, name, text string) {
	t.Helper()
	seen, number := map[string]int{}, 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		prose := strings.NewReplacer("`nobody`", "").Replace(namedTest.ReplaceAllString(line, ""))
		if word := vague.FindString(prose); word != "" {
			t.Errorf("%s:%d: %q names no subject", name, number, word)
		}
		if strings.HasPrefix(line, "|") {
			for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
				if n := utf8.RuneCountInString(strings.TrimSpace(cell)); n > mostCell {
					t.Errorf("%s:%d: a cell of %d characters, above %d: %.60s…", name, number, n, mostCell, cell)
				}
			}
			continue
		}
		if first := seen[line]; len(line) > 60 && first > 0 {
			t.Errorf("%s:%d: line %d once more: %s", name, number, first, line)
		}
		seen[line] = number
	}
}
