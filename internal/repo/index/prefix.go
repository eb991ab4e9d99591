package index

import "strings"

// Prefix is a number of leading binary digits of ids. The zero Prefix is that of all ids.
type Prefix struct {
	bits   uint64 // the digits, at the upper end
	length int
}

// prefixLengthMax is how many digits a prefix may have: runs are cut by the first 8 bytes of ids.
const prefixLengthMax = 64

// ParsePrefix reads binary digits, the highest first.
func ParsePrefix(digits string) (Prefix, bool) {
	if len(digits) > prefixLengthMax || strings.Trim(digits, "01") != "" {
		return Prefix{}, false
	}
	p := Prefix{length: len(digits)}
	for i := range digits {
		p.bits |= uint64(digits[i]-'0') << (63 - i)
	}
	return p, true
}

// String returns the digits.
func (p Prefix) String() string {
	var digits strings.Builder
	for i := range p.length {
		digits.WriteByte('0' + byte(p.bits>>(63-i)&1))
	}
	return digits.String()
}

// Len returns the number of digits.
func (p Prefix) Len() int { return p.length }

func newPrefix(key uint64, length int) Prefix {
	if length == 0 {
		return Prefix{}
	}
	return Prefix{key >> (64 - length) << (64 - length), length}
}

func (p Prefix) contains(key uint64) bool { return newPrefix(key, p.length) == p }

// last returns the greatest key with the prefix.
func (p Prefix) last() uint64 {
	if p.length == 0 {
		return ^uint64(0)
	}
	return p.bits | (1<<(64-p.length) - 1)
}

// below returns the prefixes that have n digits more, in order.
func (p Prefix) below(n int) []Prefix {
	all := make([]Prefix, 0, 1<<n)
	for i := range uint64(1) << n {
		all = append(all, Prefix{p.bits | i<<(64-p.length-n), p.length + n})
	}
	return all
}
