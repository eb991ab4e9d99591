package preview

import (
	"bytes"
	"encoding/json"
)

// marker stands for the machine in a line that is encoded once for many. It is no id of a resource, and JSON does not change
// it; it stands before anything that people wrote.
const marker = "machine"

func appendLine(buffer []byte, l line) ([]byte, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return buffer, err
	}
	return append(append(buffer, text...), '\n'), nil
}

// cutMarker returns what stands before and behind the marker and its quotation marks.
func cutMarker(text []byte) (before, after []byte) {
	before, after, _ = bytes.Cut(text, []byte(`"`+marker+`"`))
	return before, after
}
