package main

import "testing"

func TestGreetsByName(t *testing.T) {
	if got := greeting("Ana"); got != "Hello, Ana!" {
		t.Errorf("got %q", got)
	}
}
