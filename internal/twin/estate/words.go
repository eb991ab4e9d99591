package estate

import (
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// namesMax is how many accepted names an error lists.
const namesMax = 12

// wrong says that the field's value is not accepted, and what is.
func (c *checker) wrong(path, value, accepted string) *holdfast.Error {
	if value == "" {
		return c.document.Errorf(path, "missing; accepted: %s", accepted)
	}
	return c.document.Errorf(path, "%q is not accepted; accepted: %s", value, accepted)
}

// unknown says that the field names something that the file does not declare.
func (c *checker) unknown(path, value, what, accepted string) *holdfast.Error {
	if value == "" {
		return c.document.Errorf(path, "missing; it names a %s: %s", what, accepted)
	}
	return c.document.Errorf(path, "no %s is called %q; accepted: %s", what, value, accepted)
}

func (c *checker) names(all []string) string {
	switch {
	case len(all) == 0:
		return "(the file declares none)"
	case len(all) > namesMax:
		return strings.Join(all[:namesMax], ", ") + ", …"
	}
	return strings.Join(all, ", ")
}

func (e Estate) subscriptionNames() []string {
	var names []string
	for _, s := range e.Subscriptions {
		names = append(names, s.Name)
	}
	return names
}

func (e Estate) groupNames() []string {
	var names []string
	for _, g := range e.ResourceGroups {
		names = append(names, g.Name)
	}
	return names
}

func (e Estate) subnetNames() []string {
	var names []string
	for _, n := range e.Networks {
		for _, s := range n.Subnets {
			names = append(names, n.Name+"/"+s.Name)
		}
	}
	return names
}

func fold(text string) string { return strings.ToLower(text) }

func equalFold(a, b string) bool { return strings.EqualFold(a, b) }
