package keys

import "strings"

const (
	codeBytes  = 20 // 160 bits: nobody guesses them, whatever the key derivation costs
	codeGroup  = 4
	codeDigits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ" // Crockford's: without I, L, O and U
)

// NewRecoveryCode draws a password for paper: 32 digits in groups of four. It opens a slot whose RecoveryCode is set however
// it is typed: in lower case, without hyphens, with O for 0 and I or L for 1.
func NewRecoveryCode() string {
	random := Random(codeBytes)
	var digits strings.Builder
	for bit := 0; bit < 8*codeBytes; bit += 5 {
		window := uint16(random[bit/8]) << 8
		if bit/8+1 < codeBytes {
			window |= uint16(random[bit/8+1])
		}
		digits.WriteByte(codeDigits[window>>(11-bit%8)&31])
	}
	return canonicalCode(digits.String())
}

// canonicalCode returns a typed code as NewRecoveryCode writes it.
func canonicalCode(typed string) string {
	var b strings.Builder
	digits := 0
	for _, r := range strings.NewReplacer("O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(typed)) {
		if r == '-' || r == ' ' {
			continue
		}
		if digits > 0 && digits%codeGroup == 0 {
			b.WriteByte('-')
		}
		b.WriteRune(r)
		digits++
	}
	return b.String()
}
