//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browserMain is the program browser: URL [SCRIPT].
func browserMain() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fail("usage: browser URL [SCRIPT]")
	}
	fail(browse(os.Args[1], append(os.Args[2:], "''")[0]))
}

// browse opens a page in a browser of its own, and prints how each answer came
// and what was complained of, then the page's text, then what the script's
// promise came to.
func browse(url, script string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 4*patienceLimit)
	defer cancel()
	ctx, end := chromedp.NewExecAllocator(ctx, browserOptions()...)
	defer end()
	ctx, leave := chromedp.NewContext(ctx)
	defer leave()
	seen := new(browserLog)
	err := seen.follow(ctx)
	var text, said string
	if err == nil {
		err = chromedp.Do(ctx, chromedp.Navigate(url))
	}
	if err == nil {
		text, err = chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText"))
	}
	if err == nil {
		said, err = chromedp.Run(ctx, chromedp.Evaluate[string](script, chromedp.EvalAwaitPromise))
	}
	fmt.Printf("%s%s\n%s\n", seen, text, said)
	return err
}

// browserOptions are a browser that goes by no proxy and keeps to $HOME. Its
// sandbox is not for root, as whom many machines run tests.
func browserOptions() []chromedp.ExecAllocatorOption {
	return append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.Flag("no-proxy-server", true),
		chromedp.UserDataDir(filepath.Join(os.Getenv("HOME"), "chromium")))
}

// browserLog is what a page's network and console had to say.
type browserLog struct {
	mu    sync.Mutex
	lines string
}

func (l *browserLog) follow(ctx context.Context) error {
	_, network := chromedp.Call(ctx, network.Enable, network.EnableParams{})
	_, entries := chromedp.Call(ctx, log.Enable, cdp.Empty{})
	return errors.Join(network, entries, chromedp.Listen(ctx, l.event))
}

func (l *browserLog) event(ev any) {
	switch e := ev.(type) {
	case *network.EventResponseReceived:
		l.add("%s %d %s %s", e.Response.Protocol, e.Response.Status, e.Response.SecurityState, e.Response.URL)
	case *network.EventLoadingFailed:
		l.add("failed: %s", e.ErrorText)
	case *log.EventEntryAdded:
		l.add("%s: %s", e.Entry.Level, e.Entry.Text)
	case *runtime.EventConsoleAPICalled:
		l.add("console: %s", e.Type)
	case *runtime.EventExceptionThrown:
		l.add("exception: %s", e.ExceptionDetails.Text)
	}
}

func (l *browserLog) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines += fmt.Sprintf(format+"\n", args...)
}

func (l *browserLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines
}
