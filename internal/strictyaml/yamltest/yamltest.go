// Package yamltest reads YAML for tests as any other program would: into maps, lists and scalars, without a struct in mind.
// So a test can ask others' software about a file of ours. It must never be used by the program, which reads files through
// package strictyaml.
package yamltest

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/goccy/go-yaml"
)

// Values returns the documents of a file as JSON would have them.
func Values(t testing.TB, data []byte) []any {
	t.Helper()
	var all []any
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var value any
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, value)
	}
}
