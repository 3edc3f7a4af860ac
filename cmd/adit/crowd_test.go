//go:build unix

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// visitsMain is the program visits: HTTP-PORT HOST N. Four visitors ask N times
// in all; every tenth time they come anew.
func visitsMain() {
	if len(os.Args) != 4 {
		fail("usage: visits HTTP-PORT HOST N")
	}
	n, err := strconv.Atoi(os.Args[3])
	fail(err)
	var visitors sync.WaitGroup
	for range 4 {
		visitors.Go(func() {
			c := &http.Client{Timeout: patienceLimit, Transport: &http.Transport{}}
			for i := range n / 4 {
				fail(visit(c, os.Args[1], os.Args[2]))
				if i%10 == 0 {
					c.CloseIdleConnections()
				}
			}
		})
	}
	visitors.Wait()
	fmt.Println(n, "answered")
}

// visit asks for / and wants it whole.
func visit(c *http.Client, port, host string) error {
	q, err := http.NewRequest("GET", "http://127.0.0.1:"+port+"/", nil)
	if err != nil {
		return err
	}
	q.Host = host
	response, err := c.Do(q)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err = io.Copy(io.Discard, response.Body); err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("answered with %s", response.Status)
	}
	return err
}

// crowdMain is the program crowd: PORT N. It holds its connections until it is
// killed.
func crowdMain() {
	if len(os.Args) != 3 {
		fail("usage: crowd PORT N")
	}
	n, err := strconv.Atoi(os.Args[2])
	fail(err)
	var held []net.Conn
	for range n {
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+os.Args[1], time.Second)
		if err != nil {
			break
		}
		held = append(held, c)
	}
	fmt.Println(len(held), "in the crowd")
	time.Sleep(time.Hour)
}
