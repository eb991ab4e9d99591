package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/api"
)

var update = flag.Bool("update", false, "write schemas/openapi.json anew")

const described = "../../schemas/openapi.json"

// TestDescription_IsWhatIsCommitted proves that the committed description is that of the interface.
func TestDescription_IsWhatIsCommitted(t *testing.T) {
	_, description := api.New(api.Config{})
	text, err := json.Marshal(description)
	if err != nil {
		t.Fatal(err)
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, text, "", "  "); err != nil {
		t.Fatal(err)
	}
	pretty.WriteByte('\n')
	if *update {
		if err := os.WriteFile(described, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(described)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(committed, pretty.Bytes()) {
		t.Error("schemas/openapi.json is not what the interface is; look at the difference, and write it anew with: go test ./internal/api -update")
	}
}

// TestDescription_SaysEnough proves that each operation has a name, a summary, and says how it is reached.
func TestDescription_SaysEnough(t *testing.T) {
	_, description := api.New(api.Config{})
	if description.OpenAPI != "3.1.0" {
		t.Errorf("version %s", description.OpenAPI)
	}
	open := map[string]bool{"server": true, "signIn": true}
	operations := 0
	for path, item := range description.Paths {
		for _, o := range []any{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			text, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			if string(text) == "null" {
				continue
			}
			var operation struct {
				OperationID string                `json:"operationId"`
				Summary     string                `json:"summary"`
				Security    []map[string][]string `json:"security"`
			}
			if err := json.Unmarshal(text, &operation); err != nil {
				t.Fatal(err)
			}
			operations++
			if operation.OperationID == "" || operation.Summary == "" {
				t.Errorf("%s: %+v", path, operation)
			}
			if (len(operation.Security) == 0) != open[operation.OperationID] {
				t.Errorf("%s %s: whoever has not signed in: %v", path, operation.OperationID, operation.Security)
			}
		}
	}
	if operations < 30 {
		t.Errorf("%d operations", operations)
	}
}

// TestRefusals proves that what needs a token is refused without one, as a problem document, before anything else is looked at.
func TestRefusals(t *testing.T) {
	handler, description := api.New(api.Config{})
	for path, item := range description.Paths {
		for method, there := range map[string]bool{
			http.MethodGet: item.Get != nil, http.MethodPost: item.Post != nil, http.MethodPut: item.Put != nil, http.MethodPatch: item.Patch != nil, http.MethodDelete: item.Delete != nil,
		} {
			if !there || strings.HasSuffix(path, "/server") || strings.HasSuffix(path, "/sign-in") {
				continue
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(method, strings.NewReplacer("{", "", "}", "").Replace(path), strings.NewReader("{}")))
			var problem struct {
				Status       int
				Detail, Hint string
				Kind         string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil {
				t.Fatalf("%s %s: %v", method, path, err)
			}
			if w.Code != http.StatusUnauthorized || w.Header().Get("Content-Type") != "application/problem+json" || problem.Kind != "refused" || !strings.Contains(problem.Hint, "holdfast login") {
				t.Errorf("%s %s: %d %s %+v", method, path, w.Code, w.Header(), problem)
			}
		}
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/nothing", nil))
	if w.Code != http.StatusNotFound || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("what is not there: %d %s", w.Code, w.Header())
	}
}
