package cost

import (
	"encoding/json"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
)

func TestMoney_Text(t *testing.T) {
	for _, c := range []struct {
		money Money
		text  string
		json  string
	}{
		{0, "0.00", "0"},
		{1, "0.00", "0.000000001"},
		{990_000, "0.00", "0.00099"},
		{5_000_000, "0.01", "0.005"},
		{20_800_000, "0.02", "0.0208"},
		{12_345_000_000, "12.35", "12.345"},
		{-12_345_000_000, "-12.35", "-12.345"},
		{1_000_000_000_000, "1000.00", "1000"},
	} {
		if got := c.money.String(); got != c.text {
			t.Errorf("%d is written %s, want %s", int64(c.money), got, c.text)
		}
		data, err := json.Marshal(c.money)
		if err != nil || string(data) != c.json {
			t.Errorf("%d in JSON is %s (%v), want %s", int64(c.money), data, err, c.json)
		}
	}
}

// An amount that was written is read as it was, digit by digit.
func TestMoney_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Money(rapid.Int64Range(-999_999_999_999_999_999, 999_999_999_999_999_999).Draw(t, "money"))
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Money
		if err := json.Unmarshal(data, &got); err != nil || got != want {
			t.Fatalf("%s is read as %d (%v), want %d", data, got, err, want)
		}
	})
}

// Nothing is rounded or guessed: a number that Money cannot hold as it stands is refused.
func TestMoney_Refused(t *testing.T) {
	for _, text := range []string{`1e-3`, `0.0000000001`, `1000000000`, `"0.5"`, `null`, `.5`, `00.5`, `5.`, `--1`, `NaN`, `true`, `[]`, `{}`} {
		var m Money
		err := m.UnmarshalJSON([]byte(text))
		if !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%s is read as %d, %v", text, m, err)
		}
	}
}

// Sums are exact, whatever is added: compared with numbers without limit.
func TestSum_Model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s sum
		model := new(big.Int)
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			a := rapid.Int64Range(0, 1<<62).Draw(t, "a")
			b := rapid.Int64Range(0, 1<<40).Draw(t, "b")
			var one sum
			one.addProduct(a, b)
			s.add(one)
			model.Add(model, new(big.Int).Mul(big.NewInt(a), big.NewInt(b)))
		}
		if s.big().Cmp(model) != 0 {
			t.Fatalf("%s, want %s", s.big(), model)
		}
	})
}

// Half a billionth is rounded up; a price of nothing costs nothing.
func TestSum_Price(t *testing.T) {
	for _, c := range []struct {
		quantity int64
		each     Money
		divisor  int64
		want     Money
	}{{3, 1, 2, 2}, {1, 1, 3, 0}, {2, 1, 3, 1}, {10, 0, 3, 0}, {25_000, 54_000_000, 10_000, 135_000_000}} {
		if got := count(c.quantity).price(c.each, product(c.divisor)); got != c.want {
			t.Errorf("%d / %d at %d each cost %d, want %d", c.quantity, c.divisor, c.each, got, c.want)
		}
	}
}
