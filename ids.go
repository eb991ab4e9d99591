package holdfast

import (
	"strings"
)

// ResourceID is an ARM resource id such as
// /subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/disks/D. ARM ids are case-insensitive: compare them with
// Equal or by Key, never with ==.
type ResourceID string

// ParseResourceID checks that s has the shape of a resource inside a resource group and returns it unchanged.
// The error has KindInvalid and says which shape is accepted.
func ParseResourceID(s string) (ResourceID, error) {
	parts := strings.Split(strings.Trim(s, "/"), "/")
	wellFormed := len(parts) >= 8 && len(parts)%2 == 0 && strings.HasPrefix(s, "/") &&
		strings.EqualFold(parts[0], "subscriptions") && strings.EqualFold(parts[2], "resourceGroups") &&
		strings.EqualFold(parts[4], "providers")
	for _, part := range parts {
		wellFormed = wellFormed && part != ""
	}
	if !wellFormed {
		return "", Errorf(KindInvalid, "%q is not an ARM resource id", s).
			WithHint("write it as /subscriptions/<id>/resourceGroups/<name>/providers/<namespace>/<type>/<name>")
	}
	return ResourceID(s), nil
}

// Key returns the form of the id under which equal ids are equal strings.
func (id ResourceID) Key() string { return strings.ToLower(strings.TrimSuffix(string(id), "/")) }

// Equal reports whether two ids name the same resource.
func (id ResourceID) Equal(other ResourceID) bool { return id.Key() == other.Key() }

// Subscription returns the subscription part, or "" when the id is malformed.
func (id ResourceID) Subscription() string { return id.part(1) }

// ResourceGroup returns the resource group's name, or "" when the id is malformed.
func (id ResourceID) ResourceGroup() string { return id.part(3) }

// Type returns the namespace and type, such as Microsoft.Compute/disks, or "" when the id is malformed.
func (id ResourceID) Type() string {
	parts := id.parts()
	if len(parts) < 8 {
		return ""
	}
	segments := []string{parts[5]}
	for i := 6; i < len(parts); i += 2 {
		segments = append(segments, parts[i])
	}
	return strings.Join(segments, "/")
}

// Name returns the last segment.
func (id ResourceID) Name() string {
	parts := id.parts()
	return parts[len(parts)-1]
}

// Sibling returns the id of another resource of the same subscription and resource group.
func (id ResourceID) Sibling(resourceType, name string) ResourceID {
	return NewResourceID(id.Subscription(), id.ResourceGroup(), resourceType, name)
}

// NewResourceID builds the id of a top-level resource, resourceType being for instance Microsoft.Compute/disks.
func NewResourceID(subscription, resourceGroup, resourceType, name string) ResourceID {
	return ResourceID("/subscriptions/" + subscription + "/resourceGroups/" + resourceGroup + "/providers/" + resourceType + "/" + name)
}

func (id ResourceID) parts() []string { return strings.Split(strings.Trim(string(id), "/"), "/") }

func (id ResourceID) part(i int) string {
	parts := id.parts()
	if i >= len(parts) {
		return ""
	}
	return parts[i]
}
