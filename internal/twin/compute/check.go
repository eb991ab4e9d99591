package compute

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// decode reads a request's body into the SDK's model, which finds members of the wrong type.
func decode[T any](body state.Object) (*T, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	model := new(T)
	if err := json.Unmarshal(raw, model); err != nil {
		return nil, arm.BadContent(err)
	}
	return model, nil
}

// invalid is the platform's answer to a bad parameter.
func invalid(target, format string, args ...any) *arm.Error {
	return arm.Errorf(http.StatusBadRequest, "InvalidParameter", format, args...).At(target)
}

func required(target string) *arm.Error {
	return invalid(target, "Required parameter '%s' is missing (null).", lastName(target))
}

func notAllowed(format string, args ...any) *arm.Error {
	return arm.Errorf(http.StatusConflict, "OperationNotAllowed", format, args...)
}

func cannotChange(property string) *arm.Error {
	return arm.Errorf(http.StatusConflict, "PropertyChangeNotAllowed", "Changing property '%s' is not allowed.", property).At(property)
}

// oneOf refuses a text that is none of the SDK's values; the empty text passes.
func oneOf[T ~string](value string, possible []T, target string) error {
	if value == "" || slices.Contains(possible, T(value)) {
		return nil
	}
	names := make([]string, len(possible))
	for i, p := range possible {
		names[i] = string(p)
	}
	return invalid(target, "The value '%s' of parameter '%s' is not supported. Supported values are: %s.", value, lastName(target), strings.Join(names, ", "))
}

func lastName(path string) string { return path[strings.LastIndex(path, ".")+1:] }

// checkZones applies the rules for one resource's zones and returns its zone, or "".
func checkZones(body state.Object) (string, error) {
	zones := body.Texts("zones")
	if len(zones) == 0 {
		return "", nil
	}
	if len(zones) > 1 {
		return "", invalid("zones", "Only one zone can be specified, not %d.", len(zones))
	}
	region, _ := arm.FindRegion(body.Text("location"))
	if len(region.Zones) == 0 {
		return "", arm.Errorf(http.StatusBadRequest, "LocationNotSupportAvailabilityZones", "The location '%s' does not support availability zones.", region.Name).At("zones")
	}
	if !slices.Contains(region.Zones, zones[0]) {
		return "", arm.Errorf(http.StatusBadRequest, "InvalidAvailabilityZone", "The zone '%s' is not one of %s in location '%s'.", zones[0], strings.Join(region.Zones, ", "), region.Name).At("zones")
	}
	return zones[0], nil
}

// dropReadOnly removes what clients may send back but do not decide.
func dropReadOnly(body state.Object, paths ...string) {
	for _, path := range append(paths, "id", "name", "type", "systemData", "etag") {
		body.Remove(path)
	}
}

// setDefault fills in what the request left out.
func setDefault(body state.Object, path string, value any) {
	if body.At(path) == nil {
		body.Set(path, value)
	}
}

// isKind reports whether an id names a resource of that type.
func isKind(id, kind string) bool { return strings.EqualFold(arm.TypeOf(id), kind) }

func sameSubscription(a, b string) bool {
	return strings.EqualFold(subscriptionOf(a), subscriptionOf(b))
}

func subscriptionOf(id string) string {
	parts := strings.Split(strings.Trim(id, "/"), "/")
	if len(parts) < 2 {
		return ""
	}
	return parts[1]
}

func resourcePrefix(id string) string {
	return fmt.Sprintf("/subscriptions/%s/resourcegroups/", strings.ToLower(subscriptionOf(id)))
}
