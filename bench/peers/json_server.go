// The JSON answers of the arena, by Go's own server and encoder, on one thread.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
)

type rating struct {
	Score int `json:"score"`
	Count int `json:"count"`
}

type item struct {
	ID       int      `json:"id"`
	Name     string   `json:"name"`
	Category string   `json:"category"`
	Price    int      `json:"price"`
	Quantity int      `json:"quantity"`
	Active   bool     `json:"active"`
	Tags     []string `json:"tags"`
	Rating   rating   `json:"rating"`
}

type pricedItem struct {
	item
	Total int `json:"total"`
}

type answer struct {
	Items []pricedItem `json:"items"`
	Count int          `json:"count"`
}

func main() {
	port := flag.Int("port", 8080, "where to listen")
	dataset := flag.String("dataset", "", "the items")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	text, err := os.ReadFile(*dataset)
	if err != nil {
		log.Fatal(err)
	}
	var items []item
	if err := json.Unmarshal(text, &items); err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/json/", func(writer http.ResponseWriter, request *http.Request) {
		count, err := strconv.Atoi(strings.TrimPrefix(request.URL.Path, "/json/"))
		factor, factorError := strconv.Atoi(request.URL.Query().Get("m"))
		if err != nil || factorError != nil || count < 1 || count > len(items) {
			http.Error(writer, "no such items", http.StatusNotFound)
			return
		}
		result := answer{Items: make([]pricedItem, count), Count: count}
		for index := range result.Items {
			result.Items[index] = pricedItem{items[index], items[index].Price * items[index].Quantity * factor}
		}
		body, err := json.Marshal(result)
		if err != nil {
			http.Error(writer, err.Error(), http.StatusInternalServerError)
			return
		}
		writer.Header().Set("Content-Type", "application/json")
		writer.Header().Set("Content-Length", strconv.Itoa(len(body)))
		writer.Write(body)
	})
	log.Fatal(http.ListenAndServe(fmt.Sprintf("127.0.0.1:%d", *port), nil))
}
