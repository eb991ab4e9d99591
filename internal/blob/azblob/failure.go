package azblob

import (
	"context"
	"errors"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	holdfast "github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
)

// status returns the HTTP status of the service's refusal, 0 when the error is none.
func status(err error) int {
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return response.StatusCode
	}
	return 0
}

// isExists reports whether a conditional put was refused because the blob is there. The third code comes with a SAS that
// permits to create and not to overwrite.
func isExists(err error) bool {
	return bloberror.HasCode(err, bloberror.BlobAlreadyExists, bloberror.ConditionNotMet, bloberror.UnauthorizedBlobOverwrite)
}

func isMissing(err error) bool { return bloberror.HasCode(err, bloberror.BlobNotFound) }

// isUnknown reports whether the request may have taken effect: there was no answer, or one that does not say.
func isUnknown(err error) bool { return status(err) == 0 && !wasNotSent(err) || status(err) >= 500 }

// wasNotSent reports whether the SDK gave up before the request left, as it does when it gets no token.
func wasNotSent(err error) bool {
	var final interface{ NonRetriable() }
	return status(err) == 0 && errors.As(err, &final)
}

// changeFailure maps the error of a change; a nil error stays nil.
func (s *Store) changeFailure(ctx context.Context, err error, verb, name string) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case isMissing(err):
		return blob.ErrNotFound
	case bloberror.HasCode(err, bloberror.BlobImmutableDueToPolicy, bloberror.ImmutabilityPolicyDeleteOnLockedPolicy):
		return &blob.LockedError{Name: name, Err: err}
	}
	return s.failure(err, verb, name)
}

func (s *Store) readFailure(ctx context.Context, err error, name string) error {
	return s.changeFailure(ctx, err, "read", name)
}

// failure maps what the service, or the way to it, answered; verb and name tell what was tried.
func (s *Store) failure(err error, verb, name string) error {
	wrap := func(kind holdfast.Kind, hint string) error {
		return holdfast.Wrap(kind, err, "cannot %s %s in %s", verb, name, s.url).WithHint("%s", hint)
	}
	switch code := status(err); {
	case code == 0 && wasNotSent(err):
		return wrap(holdfast.KindRefused, "the credential was not accepted: check tenant, client id and secret, or the identity of this machine")
	case code == 0:
		return wrap(holdfast.KindUnavailable, "the storage account cannot be reached: check its name, the network, firewall and private endpoints")
	case bloberror.HasCode(err, bloberror.ContainerNotFound), bloberror.HasCode(err, bloberror.ResourceNotFound):
		return wrap(holdfast.KindNotFound, "create the container, or correct the account and container in the repository's address")
	case bloberror.HasCode(err, bloberror.BlobArchived, bloberror.BlobBeingRehydrated):
		return wrap(holdfast.KindConflict, "the object is in the archive tier: rehydrate it, which takes up to 15 hours, and run again")
	case bloberror.HasCode(err, bloberror.LeaseIDMissing):
		return wrap(holdfast.KindConflict, "somebody holds a lease on the object: break it in the portal when nobody needs it")
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		if verb != "read" {
			err = errors.Join(blob.ErrReadOnly, err)
		}
		return wrap(holdfast.KindRefused, "give the identity the role Storage Blob Data Contributor, or renew the SAS; check the account's firewall and this machine's clock")
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		return wrap(holdfast.KindThrottled, "the storage account is busy: run again later, or with fewer workers")
	case code >= http.StatusInternalServerError, code == http.StatusRequestTimeout:
		return wrap(holdfast.KindUnavailable, "the storage service failed: run again later")
	case code == http.StatusConflict, code == http.StatusPreconditionFailed:
		return wrap(holdfast.KindConflict, "something else changed the object or the container at the same time: run again")
	}
	return wrap(holdfast.KindInvalid, "the storage service does not accept the request; its answer names the reason")
}
