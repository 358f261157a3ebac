export default {
  server: {
    proxy: {
      "/ws": { target: "http://localhost:8080", ws: true, changeOrigin: false },
    },
  },
}
