package main

import (
	"cmp"
	"encoding"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/migrate-hpc/migrate/agent/api"
)

// printed is what the commands with a --json flag print: one of these types.
var printed = map[string][]any{
	"ps":         {[]api.Job{}},
	"inspect":    {api.Job{}, api.MoveRecord{}},
	"moves":      {[]api.MoveSummary{}},
	"move":       {api.Event{}},
	"checkpoint": {api.Event{}},
	"restore":    {api.Event{}},
	"version":    {Build{}},
}

// jsonField is a line of a table in docs/json.md.
type jsonField struct{ name, kind, unit, meaning string }

// docs/json.md has a line for each field that a command can print, with its type and, if
// it is a number, its unit; it has no others.
func TestJSONDocumentIsThatOfTheCode(t *testing.T) {
	commands, sections := readJSONDocument(t)
	want := map[string][]jsonField{}
	for command, values := range printed {
		var kinds []string
		for _, v := range values {
			kinds = append(kinds, kindOf(reflect.TypeOf(v), want))
		}
		if says := strings.Join(kinds, " or "); commands[command] != says {
			t.Errorf("docs/json.md: `migrate %s` prints %s, and the document says %q", command, says, commands[command])
		}
		delete(commands, command)
	}
	for command := range commands {
		t.Errorf("docs/json.md: `migrate %s` prints no JSON", command)
	}
	for name, fields := range want {
		compareFields(t, name, fields, sections[name])
		delete(sections, name)
	}
	for name := range sections {
		t.Errorf("docs/json.md: no command prints a %s", name)
	}
}

func TestJSONDocumentHasEveryCommand(t *testing.T) {
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		_, known := printed[c.Name()]
		if has := c.Flags().Lookup("json") != nil; has != known {
			t.Errorf("migrate %s has --json: %v, and the table of this test: %v", c.Name(), has, known)
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(newRoot(&cli{}))
}

func compareFields(t *testing.T, section string, want, have []jsonField) {
	t.Helper()
	for _, w := range want {
		i := slices.IndexFunc(have, func(f jsonField) bool { return f.name == w.name })
		if i < 0 {
			t.Errorf("docs/json.md: %s lacks `%s` | %s", section, w.name, w.kind)
			continue
		}
		f := have[i]
		have = slices.Delete(slices.Clone(have), i, i+1)
		if f.kind != w.kind {
			t.Errorf("docs/json.md: %s.%s is %s, and the document says %s", section, f.name, w.kind, f.kind)
		}
		if isNumber := w.unit != ""; isNumber != (f.unit != "") || w.unit == "ns" && f.unit != "ns" {
			t.Errorf("docs/json.md: %s.%s, a %s, has the unit %q", section, f.name, f.kind, f.unit)
		}
		if f.meaning == "" {
			t.Errorf("docs/json.md: %s.%s has no meaning", section, f.name)
		}
	}
	for _, f := range have {
		t.Errorf("docs/json.md: %s has no field `%s`", section, f.name)
	}
}

// kindOf is a type as the document spells it. The fields of objects it adds to all.
func kindOf(typ reflect.Type, all map[string][]jsonField) string {
	switch {
	case typ == reflect.TypeFor[time.Duration]():
		return "integer"
	case typ == reflect.TypeFor[time.Time]():
		return "time"
	case typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return "string"
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return kindOf(typ.Elem(), all)
	case reflect.Slice:
		return "array of " + kindOf(typ.Elem(), all)
	case reflect.Map:
		return "object of " + kindOf(typ.Elem(), all)
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Float64:
		return "number"
	case reflect.Struct:
		name := strings.ToUpper(typ.Name()[:1]) + typ.Name()[1:]
		if _, known := all[name]; !known {
			all[name] = nil // it may hold itself
			all[name] = fieldsOf(typ, all)
		}
		return name
	}
	return "integer"
}

func fieldsOf(typ reflect.Type, all map[string][]jsonField) []jsonField {
	var fields []jsonField
	for f := range typ.Fields() {
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case f.Anonymous && tag == "":
			fields = append(fields, fieldsOf(f.Type, all)...)
			continue
		case name == "-":
			continue
		}
		field := jsonField{name: name, kind: kindOf(f.Type, all)}
		switch {
		case f.Type == reflect.TypeFor[time.Duration](), field.kind == "object of integer":
			field.unit = "ns"
		case strings.Contains(field.kind, "integer"), field.kind == "number":
			field.unit = "any"
		}
		if strings.Contains(options, "omit") {
			field.kind += "?"
		}
		fields = append(fields, field)
	}
	return fields
}

// readJSONDocument returns what the commands print, and the tables of the objects.
func readJSONDocument(t *testing.T) (commands map[string]string, sections map[string][]jsonField) {
	t.Helper()
	text, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	commands, sections = map[string]string{}, map[string][]jsonField{}
	section := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		section = strings.TrimPrefix(cmp.Or(heading.FindString(line), section), "## ")
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i, c := range cells {
			cells[i] = strings.TrimSpace(c)
		}
		name := strings.Trim(cells[0], "`")
		command, isCommand := strings.CutPrefix(name, "migrate ")
		switch {
		case isCommand && len(cells) == 2:
			commands[command] = cells[1]
		case len(cells) == 4:
			sections[section] = append(sections[section], jsonField{name, cells[1], cells[2], cells[3]})
		default:
			t.Errorf("docs/json.md: this line has %d cells: %s", len(cells), line)
		}
	}
	return commands, sections
}

var heading = regexp.MustCompile(`^## .*`)
