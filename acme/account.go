package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// accountKey is where the account is stored, without .json and .key. It differs
// by CA, contact and external binding: a change of any is another account.
func (i *issuer) accountKey() string {
	who := i.cfg.Email
	if kid, _, ok := cutLast(i.cfg.EAB); ok {
		who += "+" + kid
	}
	if who == "" {
		who = "default"
	}
	safe := certmagic.StorageKeys.Safe
	return path.Join("acme", safe(i.IssuerKey()), "users", safe(who), "account")
}

// account is the account at the CA, registered by the first order.
func (i *issuer) account(ctx context.Context, client *acmez.Client) (acme.Account, error) {
	i.accounts.Lock()
	defer i.accounts.Unlock()
	if a, err := i.loadAccount(ctx); err == nil {
		return a, nil
	}
	a, err := i.newAccount(ctx, client)
	if err != nil {
		return a, fmt.Errorf("register: %w", err)
	}
	i.cfg.Logger.Info("certificates: registered with the CA", "ca", i.ca, "account", clean(a.Location))
	return a, i.saveAccount(ctx, a)
}

func (i *issuer) loadAccount(ctx context.Context) (a acme.Account, err error) {
	about, err := i.store.Load(ctx, i.accountKey()+".json")
	if err != nil {
		return a, err
	}
	key, err := i.store.Load(ctx, i.accountKey()+".key")
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(about, &a); err != nil {
		return a, err
	}
	a.PrivateKey, err = certmagic.PEMDecodePrivateKey(key)
	return a, err
}

// saveAccount stores the key first: without the rest it is simply replaced.
func (i *issuer) saveAccount(ctx context.Context, a acme.Account) error {
	about, err := json.MarshalIndent(a, "", "\t")
	if err != nil {
		return err
	}
	key, err := certmagic.PEMEncodePrivateKey(a.PrivateKey)
	if err != nil {
		return err
	}
	if err := i.store.Store(ctx, i.accountKey()+".key", key); err != nil {
		return err
	}
	return i.store.Store(ctx, i.accountKey()+".json", about)
}

// newAccount registers (RFC 8555 section 7.3). Who runs an ACME client has
// agreed to the CA's terms.
func (i *issuer) newAccount(ctx context.Context, client *acmez.Client) (a acme.Account, err error) {
	a.TermsOfServiceAgreed = true
	if i.cfg.Email != "" {
		a.Contact = []string{"mailto:" + i.cfg.Email}
	}
	if a.PrivateKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return a, err
	}
	if i.cfg.EAB != "" {
		eab, err := parseEAB(i.cfg.EAB)
		if err != nil {
			return a, err
		}
		if err := a.SetExternalAccountBinding(ctx, client.Client, eab); err != nil {
			return a, err
		}
	}
	if a, err = client.NewAccount(ctx, a); err != nil {
		return a, i.bindingError(err)
	}
	return a, nil
}

// bindingError names the external account binding where that is what the CA
// refuses; its own words are often only "unauthorized".
func (i *issuer) bindingError(err error) error {
	var p acme.Problem
	switch {
	case !errors.As(err, &p) || p.Status >= http.StatusInternalServerError || p.Status == http.StatusTooManyRequests:
		return err
	case p.Type == acme.ProblemTypeExternalAccountRequired && i.cfg.EAB == "":
		return fmt.Errorf("%w: %w", errNoBinding, err)
	case i.cfg.EAB != "":
		return fmt.Errorf("%w: %w", errBinding, err)
	}
	return err
}

var (
	errNoBinding = errors.New("the CA wants an external account binding (--acme-eab KID:KEY)")
	errBinding   = errors.New("the CA does not take the external account binding (--acme-eab KID:KEY)")
)

// forget drops an account that the CA does not know.
func (i *issuer) forget(ctx context.Context) {
	i.accounts.Lock()
	defer i.accounts.Unlock()
	_ = i.store.Delete(ctx, i.accountKey()+".json")
}

// parseEAB reads KID:KEY; the key may be in any of the base64 alphabets.
func parseEAB(s string) (acme.EAB, error) {
	kid, key, ok := cutLast(s)
	key = strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(key), "=")
	if _, err := base64.RawURLEncoding.DecodeString(key); !ok || kid == "" || key == "" || err != nil {
		return acme.EAB{}, errors.New("external account binding: KID:KEY expected, with KEY in base64url")
	}
	return acme.EAB{KeyID: kid, MACKey: key}, nil
}

// cutLast cuts s at its last colon.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
