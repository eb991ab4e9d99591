package access

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
)

// NewSlot says what is to open the repository: exactly one of Password, RecoveryCode and VaultKey.
type NewSlot struct {
	Label        string // for people; must not be that of another slot
	Password     string
	RecoveryCode bool   // a password for paper is drawn
	VaultKey     string // https://VAULT/keys/NAME, with or without a version; needs the Vault that the repository was opened with
	Replaces     string // a slot, by label or beginning of its id, that goes in the same moment; "" for none
	KDF          keys.KDFCost
}

// KeyChange is what a change of keys did.
type KeyChange struct {
	Added        []Slot   `json:"added"`
	Dropped      []Slot   `json:"dropped"`
	Generation   uint32   `json:"generation"` // that new objects are sealed with
	RecoveryCode string   `json:"recoveryCode,omitempty"`
	Exposed      *Exposed `json:"exposed,omitempty"` // nil unless the repository key was replaced
}

// Exposed is what a revocation cannot take back: who kept an old secret, and a copy of an old slot, reads these for ever.
type Exposed struct {
	Slots  []string           `json:"slots"`  // ids of the old slots; their objects go in the next collection, unless a lock holds them
	Points []holdfast.PointID `json:"points"` // published before
}

// RotateOptions tell how far a rotation goes.
type RotateOptions struct {
	// Revoke replaces the repository key, too: slots that stay are wrapped anew, and nothing that knew the old key writes any more.
	Revoke    bool
	Passwords []string // open the password slots that are to stay
	Drop      []string // slots, by label or beginning of their id, that go
	KDF       keys.KDFCost
}

// AddSlot adds a slot, or puts it into the place of another. Data is not touched. The first slot of a repository that was not
// encrypted replaces the repository key as a revocation does: the old one lies in clear. A label that is taken and a slot
// that cannot be are KindInvalid; after another error the change is made or not, and AddSlot may be called again.
func (a *Opened) AddSlot(ctx context.Context, o NewSlot) (KeyChange, error) {
	if err := o.validate(); err != nil {
		return KeyChange{}, err
	}
	c := &keyChange{a: a}
	if o.RecoveryCode {
		c.result.RecoveryCode = keys.NewRecoveryCode()
		o.Password = c.result.RecoveryCode
	}
	return c.append(ctx, func(ctx context.Context) error {
		if c.labelled(o.Label) && !c.replacesLabelled(o) {
			return holdfast.Errorf(holdfast.KindInvalid, "a key slot is called %q already", o.Label).WithField("label").
				WithHint("choose another label, or replace that slot: --replace %q", o.Label)
		}
		if c.open() {
			return c.encrypt(ctx, o)
		}
		if o.Replaces != "" {
			if err := c.drop(o.Replaces); err != nil {
				return err
			}
		}
		return c.add(ctx, o)
	})
}

// RemoveSlot ends a slot, named by its label or the beginning of its id. The last one that can be used stays: KindRefused. A slot that is
// damaged, or whose vault key does not open it now, is none; what a password opens only those know who know it.
func (a *Opened) RemoveSlot(ctx context.Context, slot string) (KeyChange, error) {
	c := &keyChange{a: a}
	return c.append(ctx, func(ctx context.Context) error {
		if err := c.drop(slot); err != nil {
			return err
		}
		return c.mustOpen(ctx, slot)
	})
}

// Rotate starts a new generation: what is written from now on is sealed with a secret of its own, what was written stays as it
// is. With Revoke it also replaces the repository key. A slot that can neither be kept nor is named in Drop is KindInvalid.
func (a *Opened) Rotate(ctx context.Context, o RotateOptions) (KeyChange, error) {
	c := &keyChange{a: a}
	return c.append(ctx, func(ctx context.Context) error {
		if !o.Revoke {
			return c.newRing(ctx, a.known.current())
		}
		return c.revoke(ctx, o)
	})
}

func (o NewSlot) validate() error {
	given := 0
	for _, set := range []bool{o.Password != "", o.RecoveryCode, o.VaultKey != ""} {
		if set {
			given++
		}
	}
	if given != 1 {
		return holdfast.Errorf(holdfast.KindInvalid, "a key slot is opened by a password, a recovery code or a vault key: exactly one").WithField("newPasswordFile").
			WithHint("give one of --new-password-file FILE, --recovery-code and --vault-key URL")
	}
	if len(o.Label) > labelBytesMax || strings.ContainsFunc(o.Label, func(c rune) bool { return c < ' ' }) {
		return holdfast.Errorf(holdfast.KindInvalid, "a label has up to %d bytes without control characters", labelBytesMax).WithField("label")
	}
	return o.KDF.Validate()
}

const (
	labelBytesMax = 100
	// slotsMax bounds the slots of a repository: opening tries one after the other, and each costs a key derivation.
	slotsMax = 16
)

// keyChange is one change of keys in the making, against the state that Append hands it; begin starts it over for each.
type keyChange struct {
	a *Opened

	slots  []Slot // those that stay and come
	ring   string
	least  uint32
	result KeyChange
}

// append makes the change that decide describes and appends it. The objects of a change are made after all entries were read
// and named by the next one, else made anew: so a collection that takes them for leftovers in between, and has to append first,
// cannot take what the log names.
func (c *keyChange) append(ctx context.Context, decide func(ctx context.Context) error) (KeyChange, error) {
	_, err := c.a.options.Log.Append(ctx, func(state oplog.State) (oplog.Entry, error) {
		if err := c.begin(ctx, state); err != nil {
			return oplog.Entry{}, err
		}
		if err := decide(ctx); err != nil {
			return oplog.Entry{}, err
		}
		return c.entry(ctx, state)
	})
	if err != nil {
		return KeyChange{}, err
	}
	if _, err := c.a.options.Log.Sync(ctx); err != nil {
		// best effort: the change is durable; this handle learns of its own ring at its next look at the log.
		c.a.options.Logger.WarnContext(ctx, "the log was not read after the key change", "error", err)
	}
	c.result.Generation = c.a.Ring.Current()
	return c.result, nil
}

// begin starts from the slots of a state.
func (c *keyChange) begin(ctx context.Context, state oplog.State) error {
	c.slots, c.ring, c.least = nil, state.KeyRing, 0
	c.result.Added, c.result.Dropped, c.result.Exposed = []Slot{}, []Slot{}, nil
	for _, name := range state.Slots {
		slot, err := c.a.describeSlot(ctx, name)
		if err != nil {
			return err
		}
		slot.Current = true
		c.slots = append(c.slots, slot)
	}
	return nil
}

// entry returns the entry of the change.
func (c *keyChange) entry(ctx context.Context, state oplog.State) (oplog.Entry, error) {
	if len(c.slots) > slotsMax {
		return oplog.Entry{}, holdfast.Errorf(holdfast.KindInvalid, "a repository has at most %d key slots", slotsMax).WithHint("remove one first")
	}
	if err := c.lockNew(ctx, state); err != nil {
		return oplog.Entry{}, err
	}
	if c.result.Exposed != nil {
		for _, p := range state.SortedPoints() {
			c.result.Exposed.Points = append(c.result.Exposed.Points, p.ID)
		}
	}
	e := oplog.Entry{Kind: oplog.Keys, KeyRing: c.ring, LeastGeneration: c.least}
	for _, slot := range c.slots {
		e.Slots = append(e.Slots, slot.object())
	}
	return e, nil
}

// lockNew locks the objects that the change brings as long as those beside which they are going to stand.
func (c *keyChange) lockNew(ctx context.Context, state oplog.State) error {
	if c.a.options.LockLike == nil {
		return nil
	}
	before, added := append(slices.Clone(state.Slots), state.KeyRing), []string{}
	for _, slot := range c.slots {
		added = append(added, slot.object())
	}
	added = slices.DeleteFunc(append(added, c.ring), func(name string) bool { return slices.Contains(before, name) })
	return c.a.options.LockLike(ctx, added, before)
}

func (c *keyChange) labelled(label string) bool {
	return label != "" && slices.ContainsFunc(c.slots, func(s Slot) bool { return s.Label == label })
}

func (c *keyChange) replacesLabelled(o NewSlot) bool {
	i, err := c.find(o.Replaces)
	return err == nil && c.slots[i].Label == o.Label
}

func (c *keyChange) open() bool {
	return slices.ContainsFunc(c.slots, func(s Slot) bool { return s.Kind == string(keys.SlotOpen) })
}

// find returns the place of the one slot that a label or the beginning of an id names.
func (c *keyChange) find(name string) (int, error) {
	var found []int
	for i, s := range c.slots {
		if s.Label == name && name != "" {
			return i, nil
		}
		if name != "" && strings.HasPrefix(s.ID, strings.ToLower(name)) {
			found = append(found, i)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, holdfast.Errorf(holdfast.KindNotFound, "the repository has no key slot %q", name).WithField("slot").WithHint("see: holdfast repo key list")
	}
	return 0, holdfast.Errorf(holdfast.KindInvalid, "%d key slots begin with %q", len(found), name).WithField("slot").WithHint("give more digits of the id, or the label")
}

// drop takes a slot out of the change.
func (c *keyChange) drop(name string) error {
	i, err := c.find(name)
	if err != nil {
		return err
	}
	c.result.Dropped = append(c.result.Dropped, ended(c.slots[i]))
	c.slots = slices.Delete(c.slots, i, i+1)
	return nil
}

// mustOpen refuses a change after which no slot would open the repository; going is the slot that was dropped.
func (c *keyChange) mustOpen(ctx context.Context, going string) error {
	var failed error
	for _, s := range c.slots {
		if s.Problem != "" {
			continue
		}
		if s.Kind != string(keys.SlotVault) {
			return nil
		}
		if failed = c.tryVault(ctx, s); failed == nil {
			return nil
		}
	}
	if failed != nil {
		return holdfast.Wrap(holdfast.KindRefused, failed, "only vault keys would be left, and none of them opens the repository now").
			WithHint("give an identity that may use them (--azure FILE), or keep or add a password or a recovery code")
	}
	return holdfast.Errorf(holdfast.KindRefused, "the last key slot that can be used cannot be removed: nobody could open the repository").
		WithHint("add another one first, or replace this one: holdfast repo key add --replace %s", going)
}

// tryVault opens a slot with its vault key.
func (c *keyChange) tryVault(ctx context.Context, s Slot) error {
	slot, err := readSlot(ctx, c.a.options.Read, s.object(), c.a.id)
	if err != nil {
		return err
	}
	if c.a.options.Vault == nil {
		return holdfast.Errorf(holdfast.KindInvalid, "no Azure identity was given to try the vault key %s", s.VaultKey)
	}
	key, err := unwrap(ctx, c.a.options.Vault, slot)
	if err == nil && string(key) != string(c.a.known.current()) {
		err = holdfast.Errorf(holdfast.KindWrongKey, "the vault key %s holds another key than the repository's", s.VaultKey)
	}
	return err
}

// ended is a slot that is not current any more.
func ended(s Slot) Slot {
	s.Current = false
	return s
}

// add wraps the repository key anew.
func (c *keyChange) add(ctx context.Context, o NewSlot) error {
	return c.wrap(ctx, o, c.a.known.current())
}

// wrap stores a slot with a repository key in it.
func (c *keyChange) wrap(ctx context.Context, o NewSlot, repositoryKey []byte) error {
	slot, err := newSlot(ctx, c.a.id, repositoryKey, o, c.a.options.Vault)
	if err != nil {
		return err
	}
	slot.Created = c.a.options.Clock.Now().UTC().Truncate(time.Second)
	name, err := put(ctx, c.a.options.Store, slot.Encode)
	if err != nil {
		return err
	}
	added := describe(name, slot)
	added.Current = true
	c.slots, c.result.Added = append(c.slots, added), append(c.result.Added, added)
	return nil
}

// newSlot makes a slot, and opens it before anybody relies on it.
func newSlot(ctx context.Context, id keys.RepositoryID, repositoryKey []byte, o NewSlot, vault Vault) (keys.Slot, error) {
	if o.VaultKey == "" {
		slot := keys.NewPasswordSlot(id, repositoryKey, o.Password, o.KDF)
		slot.Label, slot.RecoveryCode = o.Label, o.RecoveryCode
		return slot, nil
	}
	if vault == nil {
		return keys.Slot{}, holdfast.Errorf(holdfast.KindInvalid, "a vault key needs an Azure identity that may use it").WithField("vaultKey").
			WithHint("give --azure FILE, or set HOLDFAST_AZURE")
	}
	wrapped, err := vault.Wrap(ctx, o.VaultKey, repositoryKey)
	if err != nil {
		return keys.Slot{}, err
	}
	slot := keys.NewVaultSlot(id, wrapped)
	slot.Label = o.Label
	back, err := unwrap(ctx, vault, slot)
	if err != nil {
		return keys.Slot{}, err
	}
	if string(back) != string(repositoryKey) {
		return keys.Slot{}, holdfast.Errorf(holdfast.KindUnavailable, "the vault key %s does not unwrap what it wrapped", wrapped.KeyID).WithHint("run again, or use another key")
	}
	return slot, nil
}

// newRing stores a ring with one more generation under a repository key.
func (c *keyChange) newRing(ctx context.Context, repositoryKey []byte) error {
	ring := c.a.Ring.Rotated()
	var err error
	c.ring, err = put(ctx, c.a.options.Store, func() ([]byte, error) { return ring.Encode(repositoryKey) })
	return err
}

// replaceKey draws a new repository key and ends the use of all older generations.
func (c *keyChange) replaceKey(ctx context.Context) ([]byte, error) {
	repositoryKey := keys.Random(keys.Size)
	if err := c.newRing(ctx, repositoryKey); err != nil {
		return nil, err
	}
	c.a.known.add(repositoryKey) // to follow our own change
	c.least = c.a.Ring.Current() + 1
	c.result.Exposed = &Exposed{Slots: []string{}, Points: []holdfast.PointID{}}
	for _, s := range c.slots {
		c.result.Exposed.Slots = append(c.result.Exposed.Slots, s.ID)
	}
	return repositoryKey, nil
}

// encrypt ends the open slot of a repository that was not encrypted.
func (c *keyChange) encrypt(ctx context.Context, o NewSlot) error {
	repositoryKey, err := c.replaceKey(ctx)
	if err != nil {
		return err
	}
	for _, s := range c.slots {
		c.result.Dropped = append(c.result.Dropped, ended(s))
	}
	c.slots = nil
	return c.wrap(ctx, o, repositoryKey)
}

// revoke replaces the repository key and wraps it anew for every slot that stays.
func (c *keyChange) revoke(ctx context.Context, o RotateOptions) error {
	if c.open() {
		return holdfast.Errorf(holdfast.KindInvalid, "the repository is not encrypted, so there is no secret to revoke").WithField("revoke").
			WithHint("encrypt it: holdfast repo key add --new-password-file FILE")
	}
	all := slices.Clone(c.slots)
	for _, name := range o.Drop {
		if err := c.drop(name); err != nil {
			return err
		}
	}
	staying, err := c.staying(ctx, o)
	if err != nil {
		return err
	}
	for _, s := range c.slots {
		c.result.Dropped = append(c.result.Dropped, ended(s))
	}
	c.slots = all // what an old key holder has seen
	repositoryKey, err := c.replaceKey(ctx)
	if err != nil {
		return err
	}
	c.slots = nil
	for _, slot := range staying {
		if err := c.wrap(ctx, slot, repositoryKey); err != nil {
			return err
		}
	}
	return nil
}

// staying returns how each slot that was not dropped is to be wrapped anew.
func (c *keyChange) staying(ctx context.Context, o RotateOptions) ([]NewSlot, error) {
	var staying []NewSlot
	var closed []string
	for _, s := range c.slots {
		slot, err := readSlot(ctx, c.a.options.Read, s.object(), c.a.id)
		if err != nil && !holdfast.IsKind(err, holdfast.KindCorrupt) {
			return nil, err
		}
		again, ok := c.again(slot, o)
		if err != nil || !ok {
			closed = append(closed, s.name())
			continue
		}
		staying = append(staying, again)
	}
	if len(closed) > 0 {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "these key slots cannot be wrapped anew without their secret: %s", strings.Join(closed, ", ")).WithField("drop").
			WithHint("give the password of each that is to stay (--also-password-file FILE; --azure FILE for vault keys), or end it with --drop SLOT")
	}
	if len(staying) == 0 {
		return nil, holdfast.Errorf(holdfast.KindRefused, "the last key slot cannot be removed: nobody could open the repository").WithHint("keep one slot")
	}
	return staying, nil
}

// again says how a slot is wrapped anew; false when its secret is not at hand.
func (c *keyChange) again(slot keys.Slot, o RotateOptions) (NewSlot, bool) {
	switch slot.Kind {
	case keys.SlotVault:
		return NewSlot{Label: slot.Label, VaultKey: withoutVersion(slot.KeyID)}, c.a.options.Vault != nil
	case keys.SlotPassword:
		for _, password := range o.Passwords {
			if _, err := slot.Open(password); err == nil {
				return NewSlot{Label: slot.Label, Password: password, RecoveryCode: slot.RecoveryCode, KDF: o.KDF}, true
			}
		}
	case keys.SlotOpen:
	}
	return NewSlot{}, false
}

// withoutVersion returns the id of a vault key whose newest version is meant.
func withoutVersion(keyID string) string {
	if at := strings.LastIndex(keyID, "/keys/"); at >= 0 {
		name, _, _ := strings.Cut(keyID[at+len("/keys/"):], "/")
		return keyID[:at] + "/keys/" + name
	}
	return keyID
}

// name is how a slot is called in a sentence.
func (s Slot) name() string {
	if s.Label != "" {
		return fmt.Sprintf("%q (%.8s)", s.Label, s.ID)
	}
	return fmt.Sprintf("%.8s", s.ID)
}
