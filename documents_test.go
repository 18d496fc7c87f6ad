package migrate

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
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
