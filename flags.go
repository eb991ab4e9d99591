package holdfast

import "strings"

// Flag is the frequency for which a restore point was made, or by which it is kept: harmonised retention gives each point
// the flag of every schedule whose slot is its own.
type Flag uint8

// The flags, from the most frequent schedule to the rarest.
const (
	Daily Flag = 1 << iota
	Weekly
	Monthly
	Yearly
)

// AllFlags are the flags in their order.
func AllFlags() [4]Flag { return [4]Flag{Daily, Weekly, Monthly, Yearly} }

// String returns the word for people: daily, weekly, monthly or yearly.
func (f Flag) String() string {
	switch f {
	case Daily:
		return "daily"
	case Weekly:
		return "weekly"
	case Monthly:
		return "monthly"
	case Yearly:
		return "yearly"
	}
	return "unknown"
}

// MarshalText implements encoding.TextMarshaler.
func (f Flag) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it reads the words of String.
func (f *Flag) UnmarshalText(text []byte) error {
	for _, known := range AllFlags() {
		if string(text) == known.String() {
			*f = known
			return nil
		}
	}
	return Errorf(KindInvalid, "%q is not a frequency", text).WithHint("write daily, weekly, monthly or yearly")
}

// Flags is a set of flags.
type Flags uint8

// Has reports whether the set holds a flag.
func (s Flags) Has(f Flag) bool { return s&Flags(f) != 0 }

// With returns the set and a flag.
func (s Flags) With(f Flag) Flags { return s | Flags(f) }

// Without returns the set less a flag.
func (s Flags) Without(f Flag) Flags { return s &^ Flags(f) }

// String returns the letters of the flags in their order: DW. The empty set is the empty text.
func (s Flags) String() string {
	var b strings.Builder
	for i, f := range AllFlags() {
		if s.Has(f) {
			b.WriteByte(flagLetters[i])
		}
	}
	return b.String()
}

const flagLetters = "DWMY"

// MarshalText implements encoding.TextMarshaler.
func (s Flags) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; the text holds some of the letters DWMY, each once.
func (s *Flags) UnmarshalText(text []byte) error {
	var set Flags
	for _, letter := range string(text) {
		i := strings.IndexRune(flagLetters, letter)
		if i < 0 || set.Has(1<<i) {
			return Errorf(KindInvalid, "%q are not flags of a restore point", text).WithHint("write some of the letters D, W, M and Y, each once")
		}
		set = set.With(1 << i)
	}
	*s = set
	return nil
}
