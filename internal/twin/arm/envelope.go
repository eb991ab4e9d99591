package arm

import (
	"encoding/json"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v4"

	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// checkEnvelope applies the rules for name, location and tags that hold for every tracked resource, and writes the
// location in its normal form.
func checkEnvelope(body state.Object, t target, existing *state.Document) error {
	for _, name := range t.names {
		if err := CheckName(name); err != nil {
			return err
		}
	}
	if err := checkShape(body); err != nil {
		return err
	}
	if t.kind.NoLocation {
		return nil
	}
	location := NormalLocation(body.Text("location"))
	if location == "" {
		return Errorf(http.StatusBadRequest, "LocationRequired", "The location property is required for this definition.").At("location")
	}
	if _, known := FindRegion(location); !known {
		return Errorf(http.StatusBadRequest, "LocationNotAvailableForResourceType", "The provided location '%s' is not available for resource type '%s'.", location, t.kind.Name).At("location")
	}
	if existing != nil && existing.Body.Text("location") != location {
		return Errorf(http.StatusConflict, "InvalidResourceLocation", "The resource '%s' already exists in location '%s'. A resource with the same name cannot be created in location '%s'.", t.name(), existing.Body.Text("location"), location)
	}
	body.Set("location", location)
	return nil
}

// CheckName refuses what cannot be a resource's name; it is for providers that make resources which a body names.
func CheckName(name string) error {
	if len(name) <= nameCharsMax && resourceName.MatchString(name) {
		return nil
	}
	return Errorf(http.StatusBadRequest, "InvalidResourceName", "Resource name '%s' is invalid: it takes 1 to %d letters, digits, '_', '.' and '-', begins with a letter, digit or '_' and ends with a letter, digit or '_'.", name, nameCharsMax)
}

// checkShape refuses members of the wrong type that all resources share. What is inside properties is its provider's matter.
func checkShape(body state.Object) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, new(armresources.GenericResource)); err != nil {
		return BadContent(err)
	}
	if properties := body["properties"]; properties != nil && body.Object("properties") == nil {
		return Errorf(http.StatusBadRequest, "InvalidRequestContent", "The properties must be an object.").At("properties")
	}
	return checkTags(body)
}

// BadContent is the platform's answer to a body that is JSON but not what the operation takes.
func BadContent(err error) *Error {
	return Errorf(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: '%v'.", err)
}

func checkTags(body state.Object) error {
	value, given := body["tags"]
	if !given || value == nil {
		return nil
	}
	tags := body.Object("tags")
	if tags == nil {
		return Errorf(http.StatusBadRequest, "InvalidRequestContent", "The tags must be an object of texts.").At("tags")
	}
	if len(tags) > tagsMax {
		return Errorf(http.StatusBadRequest, "InvalidTags", "The resource has %d tags. The maximum number of tags allowed is %d.", len(tags), tagsMax).At("tags")
	}
	for name, value := range tags {
		text, isText := value.(string)
		if !isText && value != nil {
			return Errorf(http.StatusBadRequest, "InvalidRequestContent", "The tag '%s' must have a text as its value.", name).At("tags")
		}
		if name == "" || utf8.RuneCountInString(name) > tagNameCharsMax || utf8.RuneCountInString(text) > tagTextCharsMax {
			return Errorf(http.StatusBadRequest, "InvalidTagNameOrValue", "The tag '%.40s' is too long: names take 1 to %d characters, values up to %d.", name, tagNameCharsMax, tagTextCharsMax).At("tags")
		}
		if strings.ContainsAny(name, `<>%&\?/`) {
			return Errorf(http.StatusBadRequest, "InvalidTagNameCharacters", "The tag name '%s' has reserved characters: <>%%&\\?/.", name).At("tags")
		}
	}
	return nil
}
