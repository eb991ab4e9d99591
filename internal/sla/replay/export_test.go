package replay

// Parse is parse, for the fuzzer; what it returns can be compared as text.
func Parse(data []byte) (any, error) {
	l, err := parse(data)
	if l.edit != nil {
		return *l.edit, err
	}
	return l.event, err
}
