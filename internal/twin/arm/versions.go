package arm

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Versions is a family of api-versions: every date from Oldest to Newest, with or without -preview. The platform knows
// certain dates only; a range is accepted because other people's clients send versions that no list here would hold.
type Versions struct {
	Oldest, Newest string   // such as 2019-07-01
	Known          []string // published ones, named in refusals and by the providers' list; newest first
}

// The families served here; the newest are those the SDKs of the issue send or newer.
func resourceVersions() Versions {
	return Versions{Oldest: "2019-05-01", Newest: "2025-12-01", Known: []string{"2025-04-01", "2024-03-01", "2022-09-01", "2021-04-01", "2020-06-01", "2019-10-01"}}
}

func subscriptionVersions() Versions {
	return Versions{Oldest: "2016-06-01", Newest: "2025-12-01", Known: []string{"2022-12-01", "2021-01-01", "2020-01-01", "2019-11-01", "2019-06-01", "2016-06-01"}}
}

func authorizationVersions() Versions {
	return Versions{Oldest: "2015-01-01", Newest: "2024-12-01", Known: []string{"2022-04-01", "2020-05-01", "2018-07-01", "2017-04-01", "2016-09-01", "2015-07-01"}}
}

// check returns the ARM error for a version that is missing or unknown.
func (v Versions) check(version, subject string) error {
	if version == "" {
		return Errorf(http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
	}
	day := strings.TrimSuffix(strings.ToLower(version), "-preview")
	_, err := time.Parse(time.DateOnly, day)
	if err == nil && day >= v.Oldest && day <= v.Newest {
		return nil
	}
	return Errorf(http.StatusBadRequest, "InvalidApiVersionParameter",
		"The api-version '%s' is invalid for %s. The supported versions are '%s'.", version, subject, strings.Join(v.Known, ","))
}

// String names the range.
func (v Versions) String() string { return fmt.Sprintf("%s to %s", v.Oldest, v.Newest) }
