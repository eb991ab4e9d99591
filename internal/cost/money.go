package cost

import (
	"math/big"
	"math/bits"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// Money is an amount in billionths of the currency of the price table. Amounts are integers, so that the total of a table
// is the sum of its rows to the last digit, in whatever order they are added. An int64 reaches nine thousand million.
type Money int64

const (
	moneyDigits       = 9 // after the point
	unit        Money = 1e9
)

// Float returns the amount for drawing and comparing; sums are made of Money.
func (m Money) Float() float64 { return float64(m) / float64(unit) }

// String returns the amount with cents, rounded half away from zero: 12.35.
func (m Money) String() string {
	const cent = unit / 100
	sign, rounded := "", (m+cent/2)/cent
	if m < 0 {
		sign, rounded = "-", (-m+cent/2)/cent
	}
	digits := strconv.FormatInt(int64(rounded), 10)
	if len(digits) < 3 {
		digits = strings.Repeat("0", 3-len(digits)) + digits
	}
	return sign + digits[:len(digits)-2] + "." + digits[len(digits)-2:]
}

// MarshalJSON writes the amount as a number with all its digits: 0.00099.
func (m Money) MarshalJSON() ([]byte, error) {
	sign, rest := "", m
	if m < 0 {
		sign, rest = "-", -m
	}
	digits := strconv.FormatInt(int64(rest), 10)
	if len(digits) <= moneyDigits {
		digits = strings.Repeat("0", moneyDigits+1-len(digits)) + digits
	}
	whole, fraction := digits[:len(digits)-moneyDigits], strings.TrimRight(digits[len(digits)-moneyDigits:], "0")
	if fraction != "" {
		fraction = "." + fraction
	}
	return []byte(sign + whole + fraction), nil
}

// UnmarshalJSON reads a number of the form that MarshalJSON writes.
func (m *Money) UnmarshalJSON(data []byte) error {
	parsed, err := parseMoney(strings.TrimPrefix(string(data), "-"))
	if err != nil {
		return err
	}
	*m = parsed
	if data[0] == '-' {
		*m = -parsed
	}
	return nil
}

// amountDigitsMax is how many digits an amount may have before its point: more does not fit into Money.
const amountDigitsMax = 9

// parseMoney reads a plain decimal number without a sign, an exponent or more digits than Money holds. Nothing is rounded:
// what was written is what is meant, or it is refused.
func parseMoney(text string) (Money, error) {
	whole, fraction, pointed := strings.Cut(text, ".")
	wellFormed := allDigits(whole) && (!pointed || allDigits(fraction)) && (whole == "0" || !strings.HasPrefix(whole, "0"))
	if !wellFormed || len(whole) > amountDigitsMax || len(fraction) > moneyDigits {
		return 0, holdfast.Errorf(holdfast.KindInvalid, "%.40s is not an amount of money", text).
			WithHint("write a plain number such as 0.0208, with at most %d digits before the point and %d after it", amountDigitsMax, moneyDigits)
	}
	n, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", moneyDigits-len(fraction)), 10, 64)
	return Money(n), err
}

func allDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// sum is a sum of products of two numbers that are not negative, in 128 bits: bytes times seconds of ten million steps add
// up without an error. A petabyte for a year needs 75 bits.
type sum struct{ high, low uint64 }

// addProduct adds a × b.
func (s *sum) addProduct(a, b int64) {
	high, low := bits.Mul64(uint64(a), uint64(b))
	var carry uint64
	s.low, carry = bits.Add64(s.low, low, 0)
	s.high, _ = bits.Add64(s.high, high, carry)
}

// add adds another sum.
func (s *sum) add(o sum) {
	var carry uint64
	s.low, carry = bits.Add64(s.low, o.low, 0)
	s.high, _ = bits.Add64(s.high, o.high, carry)
}

func (s sum) isZero() bool { return s == sum{} }

func (s sum) big() *big.Int {
	n := new(big.Int).SetUint64(s.high)
	return n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(s.low))
}

// per returns the sum divided by a number, for showing.
func (s sum) per(divisor *big.Int) float64 {
	quotient, _ := new(big.Rat).SetFrac(s.big(), divisor).Float64()
	return quotient
}

// price returns what a quantity of sum / divisor costs, rounded half up to a billionth.
func (s sum) price(each Money, divisor *big.Int) Money {
	n := new(big.Int).Mul(s.big(), big.NewInt(int64(each)))
	n.Add(n, new(big.Int).Rsh(divisor, 1)).Quo(n, divisor)
	return Money(n.Int64())
}

// product multiplies what a quantity is divided by: seconds of a month and bytes of a GB.
func product(factors ...int64) *big.Int {
	n := big.NewInt(1)
	for _, f := range factors {
		n.Mul(n, big.NewInt(f))
	}
	return n
}
