package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/holdfast-backup/holdfast"
)

// Cost is what a guess at a password costs.
type Cost struct {
	MemoryKiB uint32
	Passes    uint32
	Lanes     uint8
}

// CostDefault takes about a tenth of a second and 64 MiB: RFC 9106's second choice, for machines without 2 GiB to spare.
var CostDefault = Cost{MemoryKiB: 64 << 10, Passes: 3, Lanes: 4}

// What a stored hash may ask for: a database that somebody else wrote to must not be able to stop the server.
const (
	memoryMaxKiB = 1 << 20
	passesMax    = 64
	lanesMax     = 64
)

const (
	saltSize = 16
	hashSize = 32

	// queueMax is how many sign-ins may wait for one that hashes. More come only from somebody who guesses.
	queueMax = 32
)

// Hasher hashes passwords, a few at a time: each takes 64 MiB while it runs, and whoever asks for a thousand at once must
// not get them. Safe for concurrent use.
type Hasher struct {
	cost    Cost
	running chan struct{}
	waiting chan struct{}
}

// NewHasher returns a Hasher that runs at most so many at a time.
func NewHasher(cost Cost, atOnce int) *Hasher {
	holdfast.Invariant(cost.within() && atOnce > 0, "hashing with %+v, %d at once", cost, atOnce)
	return &Hasher{cost: cost, running: make(chan struct{}, atOnce), waiting: make(chan struct{}, atOnce+queueMax)}
}

func (c Cost) within() bool {
	return c.Passes >= 1 && c.Passes <= passesMax && c.Lanes >= 1 && c.Lanes <= lanesMax && c.MemoryKiB >= 8*uint32(c.Lanes) && c.MemoryKiB <= memoryMaxKiB
}

// Hash returns a password's hash: $argon2id$v=19$m=…,t=…,p=…$salt$hash. It waits for its turn; the error is KindThrottled
// when too many wait, and that of ctx.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never returns an error (crypto/rand, Go 1.24)
	return encode(h.cost, salt, derive(h.cost, salt, password)), nil
}

// Verify holds a password against a hash, and says whether the hash was made with another cost than today's. A hash that
// cannot be read is KindCorrupt.
func (h *Hasher) Verify(ctx context.Context, encoded, password string) (match, outdated bool, err error) {
	cost, salt, want, ok := decode(encoded)
	if !ok {
		return false, false, holdfast.Errorf(holdfast.KindCorrupt, "the stored hash of a password is damaged").WithHint("set the password again")
	}
	leave, err := h.enter(ctx)
	if err != nil {
		return false, false, err
	}
	defer leave()
	match = subtle.ConstantTimeCompare(derive(cost, salt, password), want) == 1
	return match, cost != h.cost || len(salt) != saltSize, nil
}

// enter waits for a turn and returns how to leave.
func (h *Hasher) enter(ctx context.Context) (leave func(), err error) {
	select {
	case h.waiting <- struct{}{}:
	default:
		return nil, holdfast.Errorf(holdfast.KindThrottled, "too many people sign in at once").WithHint("try again in a few seconds")
	}
	select {
	case h.running <- struct{}{}:
		return func() { <-h.running; <-h.waiting }, nil
	case <-ctx.Done():
		<-h.waiting
		return nil, holdfast.Wrap(holdfast.KindCanceled, ctx.Err(), "the sign-in was given up")
	}
}

func derive(c Cost, salt []byte, password string) []byte {
	return argon2.IDKey([]byte(password), salt, c.Passes, c.MemoryKiB, c.Lanes, hashSize)
}

func encode(c Cost, salt, hash []byte) string {
	text := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.MemoryKiB, c.Passes, c.Lanes, text.EncodeToString(salt), text.EncodeToString(hash))
}

// decode reads what encode writes, and nothing else.
func decode(encoded string) (c Cost, salt, hash []byte, ok bool) {
	parts := strings.Split(encoded, "$")
	if len(parts) != 6 {
		return c, nil, nil, false
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.MemoryKiB, &c.Passes, &c.Lanes); err != nil || !c.within() {
		return c, nil, nil, false
	}
	salt, saltErr := base64.RawStdEncoding.Strict().DecodeString(parts[4])
	hash, hashErr := base64.RawStdEncoding.Strict().DecodeString(parts[5])
	ok = saltErr == nil && hashErr == nil && len(salt) >= 8 && len(salt) <= 64 && len(hash) == hashSize && encode(c, salt, hash) == encoded
	return c, salt, hash, ok
}

// What a password must be. Length is what counts; rules about kinds of characters make people write them down.
const (
	passwordMin       = 12   // characters
	passwordMax       = 1024 // bytes
	passwordDifferent = 5    // characters
)

// CheckPassword refuses passwords that are guessed first.
func CheckPassword(user, password string) error {
	refuse := func(format string, args ...any) error {
		return holdfast.Errorf(holdfast.KindInvalid, format, args...).WithField("password").
			WithHint("%d characters at least, %d different ones, without the name of the user; several words do", passwordMin, passwordDifferent)
	}
	different := make(map[rune]bool)
	for _, r := range password {
		different[r] = true
	}
	switch {
	case !utf8.ValidString(password) || len(password) > passwordMax:
		return refuse("the password is too long, or no text")
	case utf8.RuneCountInString(password) < passwordMin:
		return refuse("the password has only %d characters", utf8.RuneCountInString(password))
	case len(different) < passwordDifferent:
		return refuse("the password has only %d different characters", len(different))
	case len(user) > 2 && strings.Contains(strings.ToLower(password), strings.ToLower(user)):
		return refuse("the password contains the name of the user")
	}
	return nil
}
